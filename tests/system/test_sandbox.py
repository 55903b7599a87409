"""Users' code in a real sandbox: what it may do, and every way out that we could think of."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import psutil
import pytest
import uproot

from sandbox_here import sandbox_here
from servicex_server.errors import QueryError, SourceUnavailable
from servicex_server.run.sandbox.available import describe
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.sandbox.process import InputFile, run_script

__all__ = ["sandbox_here"]

pytestmark = pytest.mark.usefixtures("sandbox_here")

TRAILER = b'{"error": {"kind": "input", "message": "try again", "line": null}}'
LIMITS = SandboxLimits(memory_bytes=400 * 2**20, time_s=120.0, tmp_bytes=8 * 2**20)
SECRET = "the server's own"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input file, a secret beside it, and room for results."""
    folder = tmp_path_factory.mktemp("sandbox")
    with uproot.recreate(folder / "input.root") as file:
        pt = ak.unflatten(np.arange(13, dtype=np.float32), np.arange(10) % 4)
        tree = file.mktree("Events", {"x": "float64", "pt": pt.type})
        tree.extend({"x": np.arange(10.0), "pt": pt})
    (folder / "secret.txt").write_text(SECRET)
    (folder / "scratch").mkdir()
    return folder


@pytest.fixture(autouse=True)
def nothing_is_left(place: Path) -> Iterator[None]:
    """The input as it was, no file behind, no process either."""
    before = (place / "input.root").read_bytes()
    yield
    assert (place / "input.root").read_bytes() == before
    assert (place / "secret.txt").read_text() == SECRET
    assert list((place / "scratch").iterdir()) == []
    assert [child for child in psutil.Process().children(recursive=True) if child.name() == "bwrap"] == []


def function(body: str) -> str:
    return "def run_query(file_path):\n" + textwrap.indent(textwrap.dedent(body), "    ")


def identify(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def run(body: str, place: Path, limits: SandboxLimits = LIMITS) -> dict[str | None, ak.Array]:
    """The arrays that a function of this body returns."""
    source = function(body)
    outputs = run_script(source, InputFile(place / "input.root", "input.root"), limits, place / "scratch")
    return {output.name: output.array for output in outputs}


def test_gives_what_the_function_gives(place: Path) -> None:
    body = """
        import awkward as ak
        import uproot
        events = uproot.open(file_path)["Events"].arrays()
        good = events[ak.num(events.pt) > 1]
        return {"events": good, "x": good.x, "names": ak.Array(["a", None, "c"])}
        """
    namespace: dict[str, object] = {}
    exec("def run_query(file_path):\n" + textwrap.indent(textwrap.dedent(body), "    "), namespace)
    expected = namespace["run_query"](str(place / "input.root"))  # type: ignore[operator]  # a function
    result = run(body, place)
    assert list(result) == list(expected)
    for name, array in expected.items():
        assert ak.array_equal(result[name], array, dtype_exact=True)


def test_has_room_to_write_and_threads(place: Path) -> None:
    body = """
        import tempfile, threading
        import numpy as np
        with tempfile.NamedTemporaryFile() as file:
            np.save(file, np.arange(5))
            file.seek(0)
            loaded = np.load(file)
        found = []
        threads = [threading.Thread(target=found.append, args=(i,)) for i in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return loaded + len(found)
        """
    assert run(body, place)[None].to_list() == [8, 9, 10, 11, 12]


def test_what_it_prints_is_not_in_the_way(place: Path) -> None:
    body = "import numpy as np\nfor _ in range(300): print('x' * 10_000)\nreturn np.arange(2)"
    assert run(body, place)[None].to_list() == [0, 1]


def test_sees_nothing_but_its_input_and_python(place: Path) -> None:
    body = f"""
        import os
        import awkward as ak
        seen = []
        for folder, folders, files in os.walk("/"):
            if folder.startswith(("/proc", "/usr", "/lib", "/dev", {sys.prefix!r}, {sys.base_prefix!r})):
                folders.clear()
                continue
            seen += [os.path.join(folder, name) for name in files]
        return {{"files": ak.Array(sorted(seen)), "variables": ak.Array(sorted(os.environ)),
                 "user": ak.Array([os.getuid(), os.getpid()]),
                 "descriptors": ak.Array([len(os.listdir("/proc/self/fd"))])}}
        """
    result = run(body, place)
    system = {"/etc/ld.so.cache", "/etc/localtime"}
    assert set(result["files"].to_list()) - system == {"/input/input.root", "/sandbox/inside.py"}
    assert set(result["variables"].to_list()) <= {
        *("HOME", "LANG", "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PWD"),
        *("PYTHONDONTWRITEBYTECODE", "TMPDIR", "MKL_NUM_THREADS"),
    }
    assert result["user"].to_list()[0] == 65534
    assert result["user"].to_list()[1] <= 3


CALL_C = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.{call} == -1:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""

ATTEMPTS = {
    "connect": ("import socket\nsocket.create_connection(('127.0.0.1', 22))", "Network is unreachable"),
    "listen": ("import socket\nsocket.socket(socket.AF_UNIX)", "Network is unreachable"),
    "download": ("import urllib.request\nurllib.request.urlopen('http://1.1.1.1')", "Network is unreachable"),
    "passwords": ("open('/etc/shadow').read()", "No such file or directory: '/etc/shadow'"),
    "write beside the input": ("open('/input/x', 'w')", "Read-only file system"),
    "overwrite the input": ("open(file_path, 'r+')", "Read-only file system"),
    "delete the input": ("import os\nos.remove(file_path)", "Read-only file system"),
    "write into Python": ("import os\nopen(os.__file__, 'r+')", "Read-only file system"),
    "write into memory": ("open('/dev/shm/x', 'w')", "Read-only file system"),
    "write into the root": ("open('/x', 'w')", "Read-only file system"),
    "remount": (CALL_C.format(call="mount(0, b'/', 0, 32, 0)"), "Operation not permitted"),
    "make a namespace": (CALL_C.format(call="unshare(0x10000000)"), "Operation not permitted"),
    "ptrace": (CALL_C.format(call="ptrace(16, 1, 0, 0)"), "Operation not permitted"),
    "read another process": (
        CALL_C.format(call="process_vm_readv(1, 0, 0, 0, 0, 0)"),
        "Operation not permitted",
    ),
    "shared memory": (CALL_C.format(call="shmget(0, 4096, 0o1600)"), "Operation not permitted"),
    "memory file": ("import os\nos.memfd_create('x')", "Operation not permitted"),
    "become root": ("import os\nos.setuid(0)", "setuid"),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "PermissionError"),
    "shell": ("import subprocess\nsubprocess.run(['/bin/sh'])", "PermissionError"),
    "signal everybody": ("import os\nos.kill(-1, 9)", "ProcessLookupError"),
    "signal the server": (f"import os\nos.kill({os.getpid()}, 9)", "ProcessLookupError"),
    "memory bomb": (
        "kept = []\nwhile True:\n    kept.append(bytearray(10**7))",
        "the query used more than 400 MiB of memory (line 4 of the code: kept.append(bytearray(10**7)))",
    ),
    "one large array": ("import numpy as np\nnp.zeros(10**12)", "used more than 400 MiB of memory (line 3"),
    "fill its folder": (
        "f = open('/tmp/x', 'wb')\nwhile True:\n    f.write(bytes(10**6))",
        "No space left on device",
    ),
    "open files": ("kept = []\nwhile True:\n    kept.append(open('/dev/null'))", "Too many open files"),
    "many threads": (
        (
            "import threading, time\nthreading.stack_size(65536)\n"
            "while True:\n    threading.Thread(target=time.sleep, args=(1e5,), daemon=True).start()"
        ),
        ("more than 256 threads", "can't start new thread"),
    ),
    "sys.exit": (
        "import sys\nsys.exit(3)",
        "the code ended its process (SystemExit: 3) instead of returning (line 3 of the code: sys.exit(3))",
    ),
    "os._exit": (
        "import os\nprint('adieu', flush=True)\nos._exit(0)",
        "the code ended its process with code 0 instead of returning; it printed last: adieu",
    ),
    "crash": ("import ctypes\nctypes.string_at(0)", "was ended by signal SIGSEGV"),
    "kill itself": (
        "import os\nos.kill(os.getpid(), 9)",
        "was ended by signal SIGKILL, by itself or for want",
    ),
    "recursion": ("run_query(file_path)", "RecursionError"),
    "own exception": (
        "class Odd(BaseException):\n    def __str__(self): raise ValueError\nraise Odd('x')",
        "the code raised Odd (line 4 of the code: raise Odd('x'))",
    ),
    "forgotten import": (
        "return np.arange(3)",
        "NameError: name 'np' is not defined (line 2 of the code: return np.arange(3)); the client sends the",
    ),
    "garbage in place of a result": (
        (
            "import os\nfor n in range(3, 1024):\n    try:\n        os.pwrite(n, b'SXSCRIPT' * 999, 0)\n"
            "    except OSError:\n        pass\nos._exit(0)"
        ),
        "the code has tampered with its result: its header is too long",
    ),
    "blames the file": (
        (
            f"import os\ntext = {TRAILER!r}\ntext += len(text).to_bytes(8, 'little') + b'SXSCRIPT'\n"
            "for n in range(3, 1024):\n    try:\n        os.pwrite(n, text, 8)\n"
            "    except OSError:\n        pass\nos._exit(0)"
        ),
        "the code has tampered with its result: it says that the file has changed",
    ),
    "nothing in place of a result": (
        (
            "import os\nfor n in range(3, 1024):\n    try:\n        os.ftruncate(n, 8)\n"
            "    except OSError:\n        pass\nos._exit(0)"
        ),
        "the code ended its process with code 0 instead of returning",
    ),
    "symbolic links": (
        "import os\nos.symlink('/etc', '/tmp/link')\nopen('/tmp/link/shadow')",
        "No such file or directory",
    ),
    "no array": ("return [1]", "run_query returned list; it must be an awkward array"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_ends_with_its_reason(attempt: str, place: Path) -> None:
    body, shown = ATTEMPTS[attempt]
    with pytest.raises(QueryError) as raised:
        run(body, place)
    message = raised.value.message
    assert any(part in message for part in ([shown] if isinstance(shown, str) else shown)), message
    assert "\n" not in message
    assert len(message) < 1500


@pytest.mark.parametrize("path", ["secret.txt", "input.root", "scratch"])
def test_does_not_see_the_folder_of_the_input(path: str, place: Path) -> None:
    with pytest.raises(QueryError, match="FileNotFoundError"):
        run(f"import os\nos.stat({str(place / path)!r})", place)


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time\ntime.sleep(1e6)",
        "while True: print('x' * 10_000)",
        "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    ],
)
def test_is_stopped_when_its_time_is_over(body: str, place: Path) -> None:
    with pytest.raises(QueryError, match=r"the query took longer than 1\.5 s and was stopped"):
        run(body, place, SandboxLimits(memory_bytes=400 * 2**20, time_s=1.5))


def test_a_result_that_is_too_large_is_refused(place: Path) -> None:
    body = "import numpy as np\na = np.zeros(10**6)\nreturn {str(i): a for i in range(60)}"
    with pytest.raises(QueryError, match="returned a result of more than 400 MiB"):
        run(body, place)


UNCOUNTED = {
    "anonymous": (
        "import mmap\nmmap.mmap(-1, 1200 << 20)",
        "PermissionError: [Errno 1] Operation not permitted",
    ),
    "zeros": (
        "import mmap\nmmap.mmap(open('/dev/zero', 'r+b').fileno(), 1200 << 20)",
        "PermissionError: [Errno 13] Permission denied: '/dev/zero'",
    ),
    "made read-only": (
        """
        import ctypes, mmap
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        size, kept = 32 << 20, []
        for _ in range(30):
            kept.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            kept[-1].write(bytes(size))
            address = ctypes.addressof(ctypes.c_char.from_buffer(kept[-1]))
            assert libc.mprotect(address, size, mmap.PROT_READ) == 0
        while True: pass
        """,
        "the query used more than 256 MiB of memory and was stopped",
    ),
}


@pytest.mark.parametrize("way", UNCOUNTED)
def test_a_large_input_makes_no_room_for_memory(way: str, place: Path, tmp_path: Path) -> None:
    body, shown = UNCOUNTED[way]
    source = function(body)
    with (tmp_path / "sparse.root").open("wb") as sparse:
        sparse.truncate(2 << 30)
    limits = SandboxLimits(memory_bytes=256 << 20, time_s=60.0)
    with pytest.raises(QueryError) as raised:
        run_script(source, InputFile(tmp_path / "sparse.root", "x.root"), limits, place / "scratch")
    assert shown in raised.value.message


def test_a_file_that_was_exchanged_is_not_read(place: Path) -> None:
    size, changed_ns, inode = identify(place / "input.root")
    other = InputFile(place / "input.root", "x.root", (size, changed_ns, inode + 1))
    with pytest.raises(SourceUnavailable, match="changed while it was opened"):
        run_script("def run_query(path): pass", other, LIMITS, place / "scratch")


def test_code_cannot_say_that_its_file_was_exchanged(place: Path) -> None:
    same = InputFile(place / "input.root", "x.root", identify(place / "input.root"))
    with pytest.raises(QueryError, match="it says that the file has changed"):
        run_script(function(ATTEMPTS["blames the file"][0]), same, LIMITS, place / "scratch")


def test_dies_with_the_process_that_started_it(place: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.sandbox.process import InputFile, run_script
run_script("def run_query(path):\\n    import time\\n    while True: time.sleep(60)",
           InputFile(Path({str(place / "input.root")!r}), "x.root"), SandboxLimits(), Path({str(place)!r}))
"""
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as process:
        parent = psutil.Process(process.pid)
        inner: list[psutil.Process] = []
        while not any("inside.py" in " ".join(each.cmdline()) for each in inner[-1:]):
            assert process.poll() is None
            inner = parent.children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(inner, timeout=30)
    assert alive == []


def test_tells_its_version() -> None:
    assert describe().startswith("bubblewrap ")
