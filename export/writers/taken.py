"""List names that a model must not have in C: what a compiler, a C library, a board's headers or a build tool use.

`symbol_of` tells what a name is where it stands in a program, `header_of` what a file of that name would stand in for.
They are compared in lower case: file systems of Windows and macOS take Math.h for math.h.
"""

from __future__ import annotations

import re

from ... import sources

_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class co_await co_return
    co_yield compl concept const const_cast consteval constexpr constinit continue contract_assert decltype
    default delete do double dynamic_cast else enum explicit export extern false far float for friend goto huge
    if inline int interrupt long mutable namespace near new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast requires restrict return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
    typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
#: functions, variables and macros of ISO C, POSIX and glibc; of those in three precisions (sin, sinf, sinl) the first
_LIBRARY = """
    a64l abort abs accept accept4 access acct acos acosh addseverity adjtime alarm aligned_alloc alloca alphasort
    arc4random arc4random_buf arc4random_uniform asctime asin asinh asprintf assert assert_perror at_quick_exit atan
    atan2 atanh atexit atof atoi atol basename bcmp bcopy be16toh be32toh be64toh bind bindresvport bindresvport6
    brk bsearch btowc bzero c16rtomb c32rtomb c8rtomb cabs cacos cacosh call_once calloc canonicalize
    canonicalize_file_name carg casin casinh catan catanh catclose catgets catopen cbrt ccos ccosh ceil cexp
    cfgetispeed cfgetospeed cfmakeraw cfsetispeed cfsetospeed cfsetspeed chdir chmod chown chroot cimag clearenv
    clearerr clock clock_adjtime clock_getcpuclockid clock_getres clock_gettime clock_nanosleep clock_settime clog
    clog10 clone close close_range closedir closefrom closelog cnd_broadcast cnd_destroy cnd_init cnd_signal
    cnd_timedwait cnd_wait complex confstr conj connect copy_file_range copysign cos cosh cpow cproj creal creat
    crypt csin csinh csqrt ctan ctanh ctermid ctime cuserid dadd daemon daylight ddiv dfma difftime dirfd dirname
    div dladdr dladdr1 dlclose dlerror dlinfo dlmopen dlopen dlsym dlvsym dmul dprintf drand48 drem dsqrt dsub dup
    dup2 dup3 duplocale dysize eaccess ecvt endgrent endhostent endnetent endnetgrent endorder endprotoent endpwent
    endrpcent endservent endusershell endutxent environ erand48 erf erfc errno euidaccess execl execle execlp execv
    execve execveat execvp execvpe exit exp exp10 exp2 explicit_bzero expm1 fabs faccessat fadd fallocate fchdir
    fchmod fchmodat fchown fchownat fclose fcloseall fcntl fcvt fd_mask fd_set fdatasync fdim fdiv fdopen fdopendir
    feclearexcept fedisableexcept feenableexcept fegetenv fegetexcept fegetexceptflag fegetmode fegetround
    feholdexcept feof feraiseexcept ferror fesetenv fesetexcept fesetexceptflag fesetmode fesetround fetestexcept
    fetestexceptflag feupdateenv fexecve fflush ffma ffs ffsll fgetc fgetgrent fgetpos fgetpwent fgets fgetwc fgetws
    fileno finite flockfile floor fma fmax fmaximum fmaximum_mag fmaximum_mag_num fmaximum_num fmaxmag fmemopen fmin
    fminimum fminimum_mag fminimum_mag_num fminimum_num fminmag fmod fmtmsg fmul fnmatch fopen fopencookie fork
    fpathconf fpclassify fprintf fputc fputs fputwc fputws fread free freeaddrinfo freelocale freopen frexp fromfp
    fromfpx fscanf fseek fseeko fsetpos fsqrt fstat fstatat fstatvfs fsub fsync ftell ftello ftok ftruncate
    ftrylockfile ftw funlockfile futimens futimes futimesat fwide fwprintf fwrite fwscanf gai_cancel gai_error
    gai_strerror gai_suspend gamma gcvt get_current_dir_name getaddrinfo getaddrinfo_a getc getchar getcpu getcwd
    getdate getdate_err getdelim getdents64 getdirentries getdirentries64 getdomainname getdtablesize getegid
    getentropy getenv geteuid getgid getgrent getgrgid getgrnam getgrouplist getgroups gethostbyaddr gethostbyname
    gethostbyname2 gethostent gethostid gethostname getipv4sourcefilter getitimer getline getloadavg getlogin
    getnameinfo getnetbyaddr getnetbyname getnetent getnetgrent getnetgrent_r getopt getpagesize getpass getpayload
    getpeername getpgid getpgrp getpid getppid getpriority getprotobyname getprotobynumber getprotoent getpt getpw
    getpwent getpwnam getpwuid getresgid getresuid getrlimit getrpcbyname getrpcbyname_r getrpcbynumber
    getrpcbynumber_r getrpcent getrpcent_r getrusage gets getservbyname getservbyport getservent getsid getsockname
    getsockopt getsourcefilter getsubopt gettid gettimeofday getuid getumask getusershell getutmp getutmpx getutxent
    getutxid getutxline getw getwc getwchar getwd glob glob_pattern_p globfree gmtime grantpt group_member gsignal
    h_addr_list h_errno hcreate hdestroy herror hsearch hstrerror htobe16 htobe32 htole16 htole32 htonl htons hypot
    iconv iconv_close iconv_open ilogb imaxabs imaxdiv in6addr_any in6addr_loopback index inet6_opt_append
    inet6_opt_find inet6_opt_finish inet6_opt_get_val inet6_opt_init inet6_opt_next inet6_opt_set_val
    inet6_option_alloc inet6_option_append inet6_option_find inet6_option_init inet6_option_next inet6_option_space
    inet6_rth_add inet6_rth_getaddr inet6_rth_init inet6_rth_reverse inet6_rth_segments inet6_rth_space inet_addr
    inet_aton inet_lnaof inet_makeaddr inet_net_ntop inet_net_pton inet_neta inet_netof inet_network inet_nsap_addr
    inet_nsap_ntoa inet_ntoa inet_ntop inet_pton initgroups initstate innetgr insque ioctl iruserok isalnum isalpha
    isascii isatty isblank iscanonical iscntrl isctype isdigit iseqsig isfdtype isfinite isgraph isgreater
    isgreaterequal isinf isless islessequal islessgreater islower isnan isnormal isprint ispunct issignaling isspace
    issubnormal isunordered isupper iswalnum iswalpha iswblank iswcntrl iswctype iswdigit iswgraph iswlower iswprint
    iswpunct iswspace iswupper iswxdigit isxdigit iszero j0 j1 jmp_buf jn jrand48 kill kill_dependency killpg l64a
    labs lchmod lchown lcong48 ldexp ldiv le16toh le32toh le64toh leaf lfind lgamma link linkat lio_listio listen
    llabs lldiv llogb llrint llround localeconv localtime lockf log log10 log1p log2 logb longjmp lrand48 lrint
    lround lsearch lseek lstat lutimes madvise main malloc math_errhandling max_align_t mblen mbrlen mbrtoc16
    mbrtoc32 mbrtoc8 mbrtowc mbsinit mbsnrtowcs mbsrtowcs mbstowcs mbtowc memccpy memchr memcmp memcpy memfd_create
    memfrob memmem memmove memory_order memory_order_acq_rel memory_order_acquire memory_order_consume
    memory_order_relaxed memory_order_release memory_order_seq_cst mempcpy memrchr memset mincore mkdir mkdirat
    mkdtemp mkfifo mkfifoat mknod mknodat mkostemp mkostemps mkstemp mkstemps mktemp mktime mlock mlock2 mlockall
    mmap modf mprotect mrand48 mremap msgctl msgget msgrcv msgsnd msync mtx_destroy mtx_init mtx_lock mtx_plain
    mtx_recursive mtx_timed mtx_timedlock mtx_trylock mtx_unlock munlock munlockall munmap name_to_handle_at nan
    nanosleep nearbyint newlocale nextafter nextdown nexttoward nextup nftw nice nl_catd nl_item nl_langinfo
    noreturn nrand48 ntohl ntohs obstack_printf obstack_vprintf offsetof on_exit once_flag open open_by_handle_at
    open_memstream open_wmemstream openat opendir openlog optarg opterr optind optopt pathconf pause pclose perror
    pipe pipe2 pkey_alloc pkey_free pkey_get pkey_mprotect pkey_set poll popen postorder pow pow10 ppoll pread
    preadv preorder printf prlimit process_madvise process_mrelease profil program_invocation_name
    program_invocation_short_name pselect psiginfo psignal ptsname putc putchar putenv putgrent putpwent puts
    pututxline putw putwc putwchar pwrite pwritev qecvt qfcvt qgcvt qsort quick_exit raise rand random rawmemchr
    rcmd re_compile_fastmap re_compile_pattern re_match re_match_2 re_search re_search_2 re_set_registers
    re_set_syntax re_syntax_options read readahead readdir readlink readlinkat readv realloc reallocarray realpath
    recv recvfrom recvmmsg recvmsg regcomp regerror regexec regfree remainder remap_file_pages remove remque remquo
    rename renameat renameat2 revoke rewind rewinddir rexec rindex rint rmdir round roundeven rpmatch rresvport
    ruserok s6_addr s6_addr16 s6_addr32 sa_handler sa_sigaction sbrk scalb scalbln scalbn scandir scandirat scanf
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getcpu sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler sched_yield secure_getenv seed48
    seekdir select sem_clockwait sem_close sem_destroy sem_getvalue sem_init sem_open sem_post sem_timedwait
    sem_trywait sem_unlink sem_wait semctl semget semop semtimedop send sendmmsg sendmsg sendto setbuf setbuffer
    setdomainname setegid setenv seteuid setgid setgrent setgroups sethostent sethostid sethostname
    setipv4sourcefilter setitimer setjmp setlinebuf setlocale setlogin setlogmask setnetent setnetgrent setns
    setpayload setpayloadsig setpgid setpgrp setpriority setprotoent setpwent setregid setresgid setresuid setreuid
    setrlimit setrpcent setservent setsid setsockopt setsourcefilter setstate settimeofday setuid setusershell
    setutxent setvbuf shm_open shm_unlink shmat shmctl shmdt shmget shutdown si_addr si_addr_lsb si_arch si_band
    si_call_addr si_fd si_int si_lower si_overrun si_pid si_pkey si_ptr si_status si_stime si_syscall si_timerid
    si_uid si_upper si_utime si_value sigabbrev_np sigaction sigaddset sigaltstack sigandset sigblock sigdelset
    sigdescr_np sigemptyset sigev_notify_attributes sigev_notify_function sigfillset siggetmask sighold sigignore
    siginterrupt sigisemptyset sigismember sigjmp_buf siglongjmp sigmask signal signbit signgam significand sigorset
    sigpause sigpending sigprocmask sigqueue sigrelse sigreturn sigset sigsetjmp sigsetmask sigstack sigsuspend
    sigtimedwait sigwait sigwaitinfo sin sincos sinh sleep snprintf sockatmark socket socketpair splice sprintf sqrt
    srand srand48 srandom sscanf ssignal st_atime st_ctime st_mtime stat statvfs statx stderr stdin stdout stpcpy
    stpncpy strcasecmp strcasestr strcat strchr strchrnul strcmp strcoll strcpy strcspn strdup strdupa strerror
    strerrordesc_np strerrorname_np strfmon strfromd strfromf strfromf128 strfromf32 strfromf32x strfromf64
    strfromf64x strfroml strfry strftime strlen strncasecmp strncat strncmp strncpy strndup strndupa strnlen strpbrk
    strptime strrchr strsep strsignal strspn strstr strtod strtof strtof128 strtof32 strtof32x strtof64x strtoimax
    strtok strtol strtold strtoq strtoul strtoumax strtouq strverscmp strxfrm swab swprintf swscanf symlink
    symlinkat sync sync_file_range syncfs syscall sysconf syslog system sysv_signal tan tanh tcdrain tcflow tcflush
    tcgetattr tcgetpgrp tcgetsid tcsendbreak tcsetattr tcsetpgrp tdelete tdestroy tee telldir tempnam tfind tgamma
    tgkill thrd_busy thrd_create thrd_current thrd_detach thrd_equal thrd_error thrd_exit thrd_join thrd_nomem
    thrd_sleep thrd_success thrd_timedout thrd_yield time timegm timelocal timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timeradd timerclear timercmp timerisset timersub times timespec_get
    timespec_getres timezone tmpfile tmpnam toascii tolower totalorder totalordermag toupper towctrans towlower
    towupper trunc truncate tsearch tss_create tss_delete tss_get tss_set ttyname ttyslot twalk tzname tzset u_char
    u_int u_long u_short ualarm ufromfp ufromfpx uint ulimit ulong umask uname ungetc ungetwc unlink unlinkat
    unlockpt unsetenv unshare updwtmpx uselocale ushort usleep utime utimensat utimes utmpxname valloc vasprintf
    vdprintf versionsort vfork vfprintf vfscanf vfwprintf vfwscanf vhangup vmsplice vprintf vscanf vsnprintf
    vsprintf vsscanf vswprintf vswscanf vsyslog vwprintf vwscanf wait wait3 wait4 waitid waitpid wcpcpy wcpncpy
    wcrtomb wcscasecmp wcscat wcschr wcschrnul wcscmp wcscoll wcscpy wcscspn wcsdup wcsftime wcslen wcsncasecmp
    wcsncat wcsncmp wcsncpy wcsnlen wcsnrtombs wcspbrk wcsrchr wcsrtombs wcsspn wcsstr wcstod wcstof wcstof128
    wcstof32 wcstof32x wcstof64x wcstoimax wcstok wcstol wcstold wcstombs wcstoq wcstoul wcstoumax wcstouq wcswcs
    wcswidth wcsxfrm wctob wctomb wctrans wctype wcwidth wmemchr wmemcmp wmemcpy wmemmove wmempcpy wmemset wordexp
    wordfree wprintf write writev wscanf y0 y1 yn
"""
#: macros in capitals that a name of capitals alone could be
_MACROS = """
    bufsiz clocks_per_sec decimal_dig eof error exit_failure exit_success f_ok filename_max fopen_max huge_val huge_valf
    huge_vall i imaginary_i in infinity l_tmpnam maxfloat mb_cur_max nan null optional out path_max pi r_ok rand_max
    seek_cur seek_end seek_set tmp_max va_list w_ok wchar_max wchar_min weof x_ok
"""
#: predefined by compilers, or macros and namespaces of C++ and Windows
_COMPILER = """
    arm arm64 cdecl cpp hyper i386 import interface linux mips module pascal pic posix riscv small sparc std sun unix vax
    windows winapi xtensa
"""
#: of Arduino and the boards' own kits
_BOARD = """
    adc analogread analogreadresolution analogreference analogwrite attachinterrupt b binary bit bitclear bitread bitset
    bittoggle bitwrite boolean byte change client constrain dec default degrees delay delaymicroseconds detachinterrupt
    digitalread digitalwrite display eeprom esp ethernet external f falling fs hex high highbyte init initvariant internal
    interrupts ipaddress isalphanumeric ishexadecimaldigit ispunct keyboard led_builtin lobyte low lowbyte lsbfirst map max
    micros millis min mouse msbfirst nointerrupts notone oct pinmode print printable progmem pulsein pulseinlong radians
    randomseed rising sd serial serial1 serial2 serialevent server servo shiftin shiftout softwareserial spi sq stream
    string tone two_pi usb wifi wire word yield
"""
#: of the example in a package and in the README: the model would be hidden by a variable there
_EXAMPLE = """
    app_main arena best input k label loop loss output rc run setup step target x y
"""
#: targets of CMake, libraries of the linker, components of ESP-IDF and options of the runtime
_BUILD = """
    all all_build app app_trace app_update bootloader bt c clean cmock console cxx dl driver edit_cache efuse fatfs
    freertos gcc hal heap help http_parser install json kernel log lwip m mbedtls mqtt newlib no_errmsg no_train
    nvs_flash openthread package package_source partition_table perfmon preinstall protocomm rebuild_cache rt run_tests
    sdmmc soc spiffs stdc supc tcp_transport test ulp unity vfs wear_levelling wpa_supplicant zephyr zero_check
"""
#: types (POSIX keeps *_t) and families of functions
_RESERVED = re.compile(r".*_t|(pthread|posix|atomic)_.*")
#: macros of ISO C by their families, which are in capitals
_CAPITALS = re.compile(
    r"E[A-Z0-9]{2,}|SIG[A-Z0-9_]+|(M|FP|FE|FLT|DBL|LDBL|MATH|LC|ATOMIC|TIME)_.*|(PRI|SCN)[diouxX].*|.*INT.*_(MAX|MIN|C|WIDTH)"
    r"|(CHAR|SCHAR|UCHAR|SHRT|USHRT|LONG|ULONG|LLONG|ULLONG|SIZE|SSIZE)_.*|_IO.*|CLOCK_.*|PTRDIFF_.*|MB_LEN_MAX|FILE|DIR"
)

#: files that compilers, C libraries, C++ and the boards' kits find by <NAME.h>
_HEADERS = """
    acle aio aliases alloca altivec ammintrin ansi ar argp argz arm_acle arm_bf16 arm_cde arm_cmse arm_fp16
    arm_mve arm_mve_types arm_neon arm_sve assert avx2intrin avxintrin backtrace bmiintrin byteswap cet complex
    cpio cpuid ctype devctl dirent dlfcn elf emmintrin endian envlock envz err errno error execinfo fastmath
    fcntl features fenv float float16 fmaintrin fmtmsg fnmatch fstab fts ftw gconv gcov getopt glob grp gshadow
    ia32intrin iconv ieeefp ifaddrs immintrin intrin inttypes iso646 langinfo lastlog libgen libintl limits link
    locale malloc math mcheck memory mm_malloc mmintrin mntent monetary mqueue msa ndbm netdb newlib
    newlib_version nl_types nmmintrin nss obstack omp openacc paths pmmintrin poll printf pthread pty pwd
    quadmath reent regdef regex regexp resolv riscv_vector sched search semaphore setjmp sgtty shadow signal
    smmintrin spawn stab stdalign stdarg stdatomic stdbool stddef stdfix stdint stdio stdio_ext stdlib
    stdnoreturn string strings syscall sysexits syslimits syslist syslog tar termio termios tgmath thread_db
    threads time tmmintrin ttyent uchar ucontext ulimit unctrl unistd unwind utime utmp utmpx values varargs
    wait wchar wctype wmmintrin wordexp x86gprintrin x86intrin xmmintrin
"""
_BOARD_HEADERS = """
    arduino autoconf avr binary board client cmsis_compiler cmsis_gcc config core_cm0 core_cm0plus core_cm3 core_cm33
    core_cm4 core_cm55 core_cm7 core_cm85 device eeprom esp ethernet event_groups freertos freertosconfig fs
    hardwareserial hidapi init ipaddress irq kernel keyboard linker list lwipopts mbed mouse new pgmspace pico
    pins_arduino portable portmacro print printable queue sd sdkconfig semphr server servo softwareserial spi stream
    system task timers toolchain types udp usb usbapi variant version wifi windows wiring wire wprogram wstring zephyr
"""

_SYMBOLS = {
    **dict.fromkeys(_EXAMPLE.split(), "a variable of the example"),
    **dict.fromkeys(_BOARD.split(), "a name of Arduino's"),
    **dict.fromkeys(_MACROS.split(), "a macro of the C library"),
    **dict.fromkeys(_COMPILER.split(), "a name that compilers define"),
    **dict.fromkeys(_LIBRARY.split(), "a name of the C library"),
    **dict.fromkeys(_KEYWORDS.split(), "a keyword of C or C++"),
}


def symbol_of(name: str, packaged: bool = False) -> str:
    """What the name means already in C, C++ or, of a model that is `packaged` for them, to build tools; "" if nothing."""
    lower = name.lower()
    if packaged and lower in _TARGETS:
        return "a name of build tools"
    if lower in _SYMBOLS:
        return _SYMBOLS[lower]
    if _bare(lower) in _FUNCTIONS or _NARROW.fullmatch(lower):
        return "a name of the C library"
    if lower.endswith("_model") and lower != "ep_model":  # what `identifier` makes of a reserved name
        return ""
    if re.match(r"(ep|edgeprop)(_|$)", lower):
        return "a name of the runtime"
    return "a reserved name" if _RESERVED.fullmatch(lower) or _CAPITALS.fullmatch(name) else ""


def _bare(name: str) -> str:
    """A function without what tells its forms: sinf, sinf64x, strtol_l, rand_r, getc_unlocked, fopen64."""
    plain = re.sub(r"_(r|l|af|unlocked)$", "", name)
    if plain.removesuffix("64") in _FUNCTIONS:
        plain = plain.removesuffix("64")
    return plain if plain in _FUNCTIONS else re.sub(r"(f(32|64|128)x?|f|l)$", "", plain)


_FUNCTIONS, _TARGETS = frozenset(_LIBRARY.split()), frozenset(_BUILD.split())
#: f32addf64 and the like
_NARROW = re.compile(r"f(32|64)x?(add|div|fma|mul|sqrt|sub)f(32|64|128)x?")


def header_of(stem: str) -> str:
    """Whose header a file called `stem`.h would stand in for; "" if nobody's."""
    lower = stem.lower()
    if lower in {path.stem.lower() for path in sources.c_headers()}:
        return "the runtime's"
    if lower in _SYSTEM:
        return "the system's"
    return "a board kit's" if lower in _BOARDS else ""


_SYSTEM, _BOARDS = frozenset(_HEADERS.split()), frozenset(_BOARD_HEADERS.split())
