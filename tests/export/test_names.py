"""Names of models, layers and labels in C: whole, never what something else is called, and never another model's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export import cli
from edgeprop.export.writers import naming
from edgeprop.export.writers.c_text import LONGEST, header_stem, identifier, word
from edgeprop.export.writers.header import label_names, to_header
from tests.support import programs
from tests.support.compiler import CSRC, STRICT, run


def _list(words: str) -> list[str]:
    return words.split()


C_HEADERS = _list("""assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef
    stdint stdio stdlib string tgmath time wchar wctype""")
POSIX_HEADERS = _list("""dirent dlfcn fcntl fnmatch glob grp langinfo libgen netdb arpa/inet poll pthread pwd regex sched search
    semaphore spawn strings sys/ioctl sys/mman sys/select sys/socket sys/stat sys/time sys/types sys/wait syslog termios
    unistd wordexp""")
CXX_HEADERS = _list("algorithm chrono cmath cstdio cstdlib cstring functional iostream map memory string thread vector")
NOT_CXX = {"complex", "tgmath"}


def net(seed: int = 0) -> t.Sequential:
    made = t.Sequential(t.Dense(3, name="head"))
    made.build((4,), seed=seed)
    return made


# ---- What is taken ---------------------------------------------------------------------------------------------------


def headers(language: str, *more: str) -> str:
    names = [f"{name}.h" for name in (*C_HEADERS, *more) if language == "c" or name not in NOT_CXX]
    return "".join(f"#include <{name}>\n" for name in (*names, *(CXX_HEADERS if language == "c++" else ())))


def words_of(compiler: list[str], text: str) -> set[str]:
    """All identifiers and macros in what is included, but for those that begin with an underscore."""
    shown = [
        subprocess.run([*compiler, "-E", *flags, "-"], input=text, capture_output=True, text=True, check=True).stdout
        for flags in (["-P"], ["-dM"])
    ]
    found = re.findall(r"\b[A-Za-z]\w*", shown[0]) + re.findall(r"^#define ([A-Za-z]\w*)", shown[1], re.MULTILINE)
    return set(found)


@pytest.mark.parametrize(
    ("compiler", "more", "lower"),
    [
        ("gcc -std=c99 -x c", [], False),
        ("gcc -std=gnu11 -x c", POSIX_HEADERS, True),
        ("g++ -std=gnu++17 -x c++", POSIX_HEADERS, True),
    ],
)
def test_no_model_is_called_as_something_in_the_system_headers(compiler: str, more: list[str], lower: bool) -> None:
    """Beside all of them at once; and as it is written, or as a file's name becomes a prefix."""
    command = compiler.split()
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    text = headers(command[-1], *more)
    taken = words_of(command, text)
    assert len(taken) > 1000
    names = sorted({identifier(name.lower() if lower else name) for name in taken})
    text += '#include "edgeprop.h"\n' + "".join(f"extern const ep_model {name};\n" for name in names)
    done = subprocess.run(
        [*command, "-I", str(CSRC), "-fsyntax-only", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:2000]


TAKEN = _list("""ep edgeprop ep_infer EP_NONE features math float string stdint stddef limits int class template main errno
    Arduino setup loop input arena rc test all m c install no_train INT8_MAX EOF SIGINT PRId32 state_t std linux sinf
    abs time index y0 memory new core contract ops 2fast _hidden __x __ 9 größe 数字 🙂 a-b a.b digits""")


def test_any_name_compiles(tmp_path: Path) -> None:
    """As the README says, in the folder that comes first on the include path, with all that a program may include."""
    if shutil.which("c++") is None:
        pytest.skip("no c++")
    use, whole = "", ""
    called = {naming.names(None, stem)[0]: stem for stem in TAKEN}  # two of one prefix are refused elsewhere
    for name, stem in called.items():
        file = naming.names(None, stem)[1]
        model = programs.head()
        model.name = name
        model.labels = ["math", "EOF", "int", stem, "main"]
        (tmp_path / file).write_text(to_header(model, file), encoding="utf-8")
        whole += f"#define {name.upper()}_IMPLEMENTATION\n"
        use += f'#include "{file}"\nint size_of_{name}(void);\nint size_of_{name}(void)\n'
        use += f"{{ return (int)({name.upper()}_INFER_ARENA + {name}.n_nodes); }}\n"
    (tmp_path / "use.c").write_text(headers("c", "unistd", "fcntl") + whole + use, encoding="utf-8")
    (tmp_path / "use.cpp").write_text(headers("c++") + "#include <complex>\n" + use, encoding="utf-8")
    folders = ["-I", tmp_path, "-I", CSRC]
    strict = [flag for flag in STRICT if flag != "-Wshadow"]
    run(["cc", "-std=gnu11", *strict, *folders, "-fsyntax-only", tmp_path / "use.c"])
    run(["c++", "-std=gnu++17", *strict, *folders, "-fsyntax-only", tmp_path / "use.cpp"])
    for source in ("core.c", "learn.c", "save.c"):
        run(["cc", "-std=c99", *folders, "-fsyntax-only", CSRC / source])


@pytest.mark.parametrize(
    "name", ["math", "Float", "STDINT", "features", "edgeprop", "contract", "immintrin", "Arduino"]
)
def test_no_header_stands_in_for_another(name: str) -> None:
    assert header_stem(name) == f"{name}_model"
    assert identifier(name) == f"{name}_model"


@given(st.text() | st.from_regex(r"(ep|m|_|EP_)?[a-z_]*[_tfl]{0,2}", fullmatch=True))
def test_an_identifier_stays_one(text: str) -> None:
    name = identifier(text)
    assert identifier(name) == name
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name)
    assert "__" not in name


# ---- Whole -----------------------------------------------------------------------------------------------------------


def test_long_names_stay_whole_and_two() -> None:
    long = "a_sensor_of_a_machine_in_a_hall_with_many_others_the_left_one"
    assert len(long) == 61
    assert identifier(long) == long
    longer = [identifier(long + end) for end in ("_of_two", "_of_three")]
    assert len(set(longer)) == 2
    assert all(len(name) <= LONGEST and name.startswith(long[:50]) for name in longer)
    assert word(long + "_of_two") == longer[0]


def test_two_models_with_a_long_beginning_are_two(tmp_path: Path) -> None:
    results = [export.save(tmp_path / f"vibration_of_the_left_motor_{end}", net(), package="arduino") for end in "ab"]
    assert len({result.program.name for result in results}) == 2
    assert results[0].packages["arduino"] != results[1].packages["arduino"]
    texts = [result.paths["header"].read_text() for result in results]
    assert len({re.search(r"#ifndef (EP_MODEL_\w+)", text)[1] for text in texts}) == 2  # type: ignore[index]


# ---- Told ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "said"),
    [
        ("math", ["header is math_model.h, and the C names begin with math_model: compilers would find math.h"]),
        ("ep", ["C names begin with ep_model_model: ep is a name of the runtime"]),
        ("2fast", ["does not begin with a digit, as 2fast does"]),
        ("数字", ["'数字' has no letter that a C name may have"]),
        ("größe", ["'größe' has letters that a C name may not have"]),
        ("x" * 70, ["a C name has 63 characters"]),
        ("my-net v2", []),
        ("Digits", []),
    ],
)
def test_a_name_that_is_not_the_file_s_is_told(stem: str, said: list[str], tmp_path: Path) -> None:
    notes = export.save(tmp_path / stem, net()).notes
    assert len(notes) == len(said)
    for note, words in zip(notes, said, strict=True):
        assert words in note


def test_the_header_is_where_the_export_says(tmp_path: Path) -> None:
    result = export.save(tmp_path / "math", net())
    assert result.paths["header"] == tmp_path / "math_model.h"
    assert '#include "math_model.h"' in result.paths["header"].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "math.ep",
        "math.onnx",
        "math.report.html",
        "math.report.md",
        "math_model.h",
    ]
    other = export.save(tmp_path / "my-net v2", net())
    assert '#include "my-net v2.h"' in other.paths["header"].read_text()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["yes", "no"], ["YES", "NO"]),
        (["yes", "Yes", "yes!", "no"], ["YES", "YES_2", "YES_3", "NO"]),
        (["yes", "Yes", "yes_2"], ["YES", "YES_3", "YES_2"]),
        (["", "はい", "1"], ["0", "1", "1_2"]),
        (["great white shark, man-eater, of the sea, " + end for end in ("one with teeth", "one without")], None),
    ],
)
def test_labels_are_told_apart(labels: list[str], names: list[str] | None) -> None:
    found = label_names(labels)
    assert len(set(found)) == len(labels)
    assert names is None or found == names


def test_numbered_labels_are_told(tmp_path: Path) -> None:
    notes = export.save(tmp_path / "net", net(), labels=["yes", "Yes", "no"]).notes
    assert notes == ["labels that are one word in C are numbered: 'Yes' is LABEL_YES_2"]
    assert export.save(tmp_path / "net", net(), labels=["yes", "no", "はい"]).notes == []


# ---- Refused ---------------------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("first", "second"), [("my-net", "my_net"), ("My.Net", "my net"), ("数字", "文字")])
def test_two_models_of_one_prefix_are_refused(first: str, second: str, tmp_path: Path) -> None:
    export.save(tmp_path / first, net())
    before = tree(tmp_path)
    with pytest.raises(export.ExportError, match="in one program both would be one model"):
        export.save(tmp_path / second, net(1))
    assert tree(tmp_path) == before
    export.save(tmp_path / "other" / second, net(1))
    export.save(tmp_path / second, net(1), name="another")
    export.save(tmp_path / first, net(1))


def test_copies_made_by_hand_are_in_nobodys_way(tmp_path: Path) -> None:
    """Older versions of the model's own header, under whatever name; the user is told that they are no second model."""
    header = export.save(tmp_path / "my-net", net()).paths["header"]
    for copy in ("my-net_backup.h", "my-net (copy).h", "old.h"):
        (tmp_path / copy).write_bytes(header.read_bytes())
    header.rename(tmp_path / "moved.h")
    before = tree(tmp_path)
    told = [note for note in export.save(tmp_path / "my-net", net(1)).notes if "is a copy of an older my-net.h" in note]
    assert len(told) == 4
    assert {name: data for name, data in tree(tmp_path).items() if name in before and name.endswith(".h")} == {
        name: data for name, data in before.items() if name.endswith(".h")
    }
    with pytest.raises(export.ExportError, match="in one program both would be one model"):
        export.save(tmp_path / "my_net", net(1))


def test_a_package_of_another_model_is_not_replaced(tmp_path: Path) -> None:
    first = export.save(tmp_path / "my-net", net(), package=["arduino", "cmake"])
    for path in first.paths.values():
        path.rename(path.with_suffix(".away"))
    before = tree(tmp_path)
    with pytest.raises(export.PackageError, match=r"holds another model, my-net\.onnx"):
        export.save(tmp_path / "my_net", net(1), package="cmake")
    assert tree(tmp_path) == before
    export.save(tmp_path / "my-net", net(1), package="cmake")


def test_the_command_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = export.save(tmp_path / "given", net()).paths["onnx"]
    assert cli.main(["export", str(model), "--name", "math", "-o", str(tmp_path / "out")]) == 0
    assert "note: the header is math_model.h" in capsys.readouterr().out
    assert cli.main(["export", str(model), "--name", "a-b", "-o", str(tmp_path / "out")]) == 0
    assert cli.main(["export", str(model), "--name", "a_b", "-o", str(tmp_path / "out")]) == 2
    assert "both would be one model" in capsys.readouterr().err


def test_names_of_build_tools_are_taken_where_a_library_is_made_for_one() -> None:
    """CMake's `m` is the library of mathematics, and a program's `m` anyone's."""
    assert naming.names(None, "m") == ("m", "m.h", [])
    found, header, (note,) = naming.names(None, "m", packaged=True)
    assert (found, header) == ("m_model", "m.h")
    assert "a name of build tools" in note


# ---- Notes and neighbours --------------------------------------------------------------------------------------------


def test_of_many_numbered_labels_three_are_named() -> None:
    for count, more in ((3, ""), (4, " and 1 more"), (6, " and 3 more")):
        labels = ["yes", *("yes" + "!" * i for i in range(1, count + 1))]
        (note,) = naming.label_notes(labels)
        assert note.endswith(f"'yes!!!' is LABEL_YES_4{more}")
        assert note.count(" is LABEL_") == 3


def test_labels_without_a_letter_are_no_numbered_ones() -> None:
    """They go by their index, which nobody would call a number behind a word."""
    assert naming.label_notes(["はい", "いいえ", "yes"]) == []


@pytest.mark.parametrize("name", ["a-b", "1st", "", "größe", "a b"])
def test_a_prefix_that_is_asked_for_is_an_identifier(name: str) -> None:
    with pytest.raises(naming.NameTaken, match="is no C identifier: use '"):
        naming.names(name, "net")


def test_a_prefix_that_is_asked_for_stays() -> None:
    """Also in its capitals; that of the file's name is in lower case."""
    assert naming.names("My_Net", "file") == ("My_Net", "file.h", [])
    assert naming.names(None, "My_Net") == ("my_net", "My_Net.h", [])
    found, file, (note,) = naming.names("int", "net")
    assert (found, file) == ("int_model", "net.h")
    assert note == "the C names begin with int_model: int is a keyword of C or C++"
    found, file, notes = naming.names("other", "math")
    assert (found, file) == ("other", "math_model.h")
    assert notes == ["the header is math_model.h: compilers would find math.h in place of the system's"]


def test_the_model_s_own_header_is_no_neighbour(tmp_path: Path) -> None:
    """Under its name, or reached by a link; that of another model is one, also where the own is not there yet."""
    own = tmp_path / "net.h"
    naming.check_neighbours(tmp_path / "nowhere" / "net.h", "net")
    own.write_text(to_header(programs.head()).replace("EP_MODEL_HEAD_H", "EP_MODEL_NET_H"), encoding="utf-8")
    naming.check_neighbours(own, "net")
    (tmp_path / "link.h").symlink_to(own)
    naming.check_neighbours(own, "net")
    (tmp_path / "link.h").unlink()
    with pytest.raises(naming.NameTaken, match=r"net\.h has C names that begin with net too"):
        naming.check_neighbours(tmp_path / "other.h", "net")
    naming.check_neighbours(tmp_path / "other.h", "another")
    (tmp_path / "mine.h").write_text("#ifndef EP_MODEL_MINE_H\n")  # no header of the exporter's: it tells no source
    naming.check_neighbours(tmp_path / "other.h", "mine")


@pytest.mark.parametrize("name", ["co_await", "co_return", "co_yield", "contract_assert", "typeof_unqual"])
def test_keywords_of_newer_c_and_cpp(name: str) -> None:
    assert naming.names(name, "net")[0] == f"{name}_model"
