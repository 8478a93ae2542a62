"""Estimators of scikit-learn: exported without skl2onnx, they answer on the device as they did on the desktop."""

from __future__ import annotations

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from sklearn.datasets import load_diabetes, load_digits, load_iris  # noqa: E402
from sklearn.decomposition import PCA, TruncatedSVD  # noqa: E402
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: E402
from sklearn.feature_selection import SelectKBest  # noqa: E402
from sklearn.linear_model import (  # noqa: E402
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC  # noqa: E402

import edgeprop  # noqa: E402
from edgeprop import export  # noqa: E402
from edgeprop.export.writers.image import to_image  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def iris():
    x, y = load_iris(return_X_y=True)
    return x.astype(np.float32), y


def two():
    x, y = iris()
    return x[y < 2], np.array(["no", "yes"])[y[y < 2]]


CLASSIFIERS = {
    "mlp": (lambda: MLPClassifier((16, 8), max_iter=60, random_state=0), iris),
    "mlp tanh": (lambda: MLPClassifier((9,), activation="tanh", max_iter=60, random_state=0), iris),
    "mlp logistic": (lambda: MLPClassifier((9,), activation="logistic", max_iter=60, random_state=0), iris),
    "mlp identity": (lambda: MLPClassifier((9,), activation="identity", max_iter=60, random_state=0), iris),
    "mlp of two classes": (lambda: MLPClassifier((9,), max_iter=60, random_state=0), two),
    "logistic": (lambda: LogisticRegression(max_iter=500), iris),
    "logistic of two classes": (lambda: LogisticRegression(), two),
    "pipeline": (lambda: make_pipeline(StandardScaler(), MLPClassifier((9,), max_iter=60, random_state=0)), iris),
    "no mean": (lambda: make_pipeline(StandardScaler(with_mean=False), LogisticRegression()), iris),
    "no deviation": (lambda: make_pipeline(StandardScaler(with_std=False), LogisticRegression()), iris),
    "nothing scaled": (
        lambda: make_pipeline(StandardScaler(with_std=False, with_mean=False), LogisticRegression()),
        iris,
    ),
    "passthrough": (lambda: Pipeline([("no", "passthrough"), ("yes", LogisticRegression())]), iris),
}


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_probabilities(case, tmp_path):
    build, data = CLASSIFIERS[case]
    x, y = data()
    estimator = build().fit(x, y)
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    np.testing.assert_allclose(model.predict_proba(x), estimator.predict_proba(x), rtol=1e-4, atol=1e-5)
    assert list(model.classes_) == [str(label) for label in estimator.classes_]
    assert list(model.classes_[model.predict(x)]) == [str(label) for label in estimator.predict(x)]


@pytest.mark.parametrize("outputs", [1, 2])
def test_regressor(outputs, tmp_path):
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    target = y if outputs == 1 else np.stack([y, -2 * y], 1)
    estimator = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(12,), max_iter=50, random_state=0)
    ).fit(x, target)
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    want = estimator.predict(x).reshape(-1, outputs)
    np.testing.assert_allclose(model.predict(x.astype(np.float32)), want, atol=1e-4 * np.abs(want).max())
    assert model.loss == "mse"


BEFORE = {
    "max abs": lambda: MaxAbsScaler(),
    "min max": lambda: MinMaxScaler((-1, 1)),
    "clipped": lambda: MinMaxScaler(clip=True),
    "robust": lambda: RobustScaler(),
    "pca": lambda: PCA(3),
    "whitened": lambda: PCA(2, whiten=True),
    "svd": lambda: TruncatedSVD(2),
    "l1": lambda: Normalizer("l1"),
    "l2": lambda: Normalizer(),
    "best": lambda: SelectKBest(k=2),
    "twice": lambda: make_pipeline(StandardScaler(), PCA(3), StandardScaler()),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_stands_before(case, tmp_path):
    x, y = iris()
    step = BEFORE[case]()
    steps = [part for _, part in step.steps] if hasattr(step, "steps") else [step]
    estimator = make_pipeline(*steps, LogisticRegression(max_iter=500)).fit(x[::2], y[::2])
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    np.testing.assert_allclose(model.predict_proba(x), estimator.predict_proba(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", [iris, two])
@pytest.mark.parametrize("kind", [LinearSVC, Perceptron, RidgeClassifier, SGDClassifier])
def test_margins(kind, data, tmp_path):
    x, y = data()
    estimator = make_pipeline(StandardScaler(), kind(random_state=0)).fit(x, y)
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    assert list(model.classes_[model.predict(x)]) == [str(label) for label in estimator.predict(x)]
    assert model.loss == "hinge"


@pytest.mark.parametrize("data", [iris, two])
def test_discriminants(data, tmp_path):
    x, y = data()
    estimator = LinearDiscriminantAnalysis().fit(x, y)
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    np.testing.assert_allclose(model.predict_proba(x), estimator.predict_proba(x), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "outputs"), [(SGDRegressor, 1), *((kind, n) for kind in (Lasso, LinearRegression, Ridge) for n in (1, 2))]
)
def test_linear_regressor(kind, outputs, tmp_path):
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    estimator = kind().fit(x, y if outputs == 1 else np.stack([y, -2 * y], 1))
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    want = estimator.predict(x).reshape(-1, outputs)
    np.testing.assert_allclose(model.predict(x.astype(np.float32)), want, atol=1e-4)


def test_the_last_layer_learns(tmp_path):
    x, y = iris()
    estimator = make_pipeline(StandardScaler(), MLPClassifier((9,), max_iter=5, random_state=0)).fit(x, y)
    model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
    before = model.score(x, y)
    assert model.partial_fit(x, y, lr=0.05, epochs=30).score(x, y) > max(before, 0.9)


@pytest.mark.parametrize("trainable", [None, []])
def test_quantized(trainable, tmp_path):
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    estimator = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=60, random_state=0)).fit(x, y)
    model = edgeprop.Model(
        export.save(tmp_path / "net", estimator, calibration=x[:200], trainable=trainable).paths["image"]
    )
    assert np.mean(model.predict(x) == estimator.predict(x)) > 0.97
    assert (model.loss is None) == (trainable is not None)


def test_what_is_refused():
    x, y = iris()
    with pytest.raises(ValueError, match=r"KNeighborsClassifier is not supported as the last step.*LogisticRegression"):
        export.from_sklearn(KNeighborsClassifier().fit(x, y))
    with pytest.raises(ValueError, match=r"Binarizer is not supported before another.*Pipeline of MaxAbsScaler"):
        export.from_sklearn(make_pipeline(Binarizer(), Ridge()).fit(x, y))
    with pytest.raises(ValueError, match=r"Normalizer\(norm='max'\)"):
        export.from_sklearn(make_pipeline(Normalizer("max"), Ridge()).fit(x, y))
    with pytest.raises(ValueError, match="not fitted"):
        export.from_sklearn(LogisticRegression())
    poisson = MLPRegressor(hidden_layer_sizes=(3,), loss="poisson", max_iter=2).fit(x, y)
    with pytest.raises(ValueError, match="exp"):
        export.from_sklearn(poisson)
    with pytest.raises(ValueError, match="StandardScaler is not supported"):
        export.from_sklearn(StandardScaler().fit(x))


def test_scalers_that_clip(tmp_path):
    """Two in a row, one in a pipeline of its own; beyond what they were fitted to, where alone it matters."""
    x, y = load_diabetes(return_X_y=True)
    largest = MaxAbsScaler(clip=True) if "clip" in MaxAbsScaler().get_params() else MaxAbsScaler()
    before = make_pipeline(MinMaxScaler((0, 1), clip=True), MinMaxScaler((-3, 5), clip=True))
    for scaler in (before, largest):
        estimator = make_pipeline(scaler, Ridge()).fit(x, y / y.std())
        model = edgeprop.Model(export.save(tmp_path / "net", estimator).paths["image"])
        wide = (3 * x).astype(np.float32)
        np.testing.assert_allclose(model.predict(wide)[:, 0], estimator.predict(wide), rtol=1e-4, atol=1e-4)


def test_components_without_variance_are_refused():
    x, y = iris()
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    with pytest.raises(ValueError, match=r"1 components without variance.*n_components=4"):
        export.from_sklearn(make_pipeline(PCA(whiten=True), Ridge()).fit(x, y))


def test_several_labels_a_sample_are_refused():
    x, y = iris()
    with pytest.raises(ValueError, match=r"RidgeClassifier of several labels a sample.*MLPClassifier"):
        export.from_sklearn(RidgeClassifier().fit(x, np.stack([y > 0, y > 1], 1)))


@pytest.mark.parametrize("make", [StandardScaler, RobustScaler, MinMaxScaler, lambda: MinMaxScaler((-1, 1))])
def test_values_far_from_zero_keep_their_digits(make):
    """Air pressure in Pa, a time in seconds: float32 holds few digits of them, and a scaler may lose none of those."""
    random = np.random.default_rng(0)
    x = (np.array([101_325.0, 1.7e6, 0.5]) + random.normal(size=(60, 3)) * [3, 40, 0.2]).astype(np.float32)
    y = (x.astype(np.float64) - x.mean(0)).sum(1)
    pipeline = make_pipeline(make(), Ridge()).fit(x.astype(np.float64), y)
    program = export.lower(export.from_sklearn(pipeline))
    export.plan(program)
    (answers,) = edgeprop.Model(to_image(program)).run(x)
    np.testing.assert_allclose(answers.ravel(), pipeline.predict(x.astype(np.float64)), atol=2e-4 * np.abs(y).max())
