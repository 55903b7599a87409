"""A filter of system calls, as the kernel takes it: no processes, no sockets, no memory outside the bounds.

The program is classic BPF over `struct seccomp_data` (number at 0, architecture at 4, arguments from 16 on);
see Linux' Documentation/userspace-api/seccomp_filter.rst. Numbers are those of the kernel's tables of system
calls.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _FOURTH_ARGUMENT = 0, 4, 16, 40
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_CLONE_THREAD = 0x00010000
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_X32 = 0x40000000

# The same numbers on all architectures: calls that came after Linux 5.1.
_NEW_CALLS = {
    "pidfd_open": 434, "pidfd_getfd": 438, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "mount_setattr": 442, "process_madvise": 440, "memfd_secret": 447,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Machine:
    """An architecture: its number, the calls whose arguments count, and those that are refused outright."""

    audit_number: int
    clone: int
    clone3: int
    socket: int
    mmap: int
    refused: Mapping[str, int]


_MACHINES: Mapping[str, _Machine] = MappingProxyType(
    {
        "x86_64": _Machine(
            0xC000003E,
            clone=56,
            clone3=435,
            socket=41,
            mmap=9,
            refused={
                "fork": 57, "vfork": 58, "ptrace": 101, "syslog": 103, "pivot_root": 155, "chroot": 161,
                "acct": 163, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
                "init_module": 175, "delete_module": 176, "quotactl": 179, "mq_open": 240, "kexec_load": 246,
                "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "shmget": 29, "shmat": 30,
                "semget": 64, "msgget": 68, "perf_event_open": 298, "fanotify_init": 300,
                "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
                "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "memfd_create": 319, "bpf": 321,
                "userfaultfd": 323, **_NEW_CALLS,
            },
        ),
        "aarch64": _Machine(
            0xC00000B7,
            clone=220,
            clone3=435,
            socket=198,
            mmap=222,
            refused={
                "ptrace": 117, "syslog": 116, "pivot_root": 41, "chroot": 51, "acct": 89, "mount": 40,
                "umount2": 39, "swapon": 224, "swapoff": 225, "reboot": 142, "init_module": 105,
                "delete_module": 106, "quotactl": 60, "mq_open": 180, "kexec_load": 104, "add_key": 217,
                "request_key": 218, "keyctl": 219, "unshare": 97, "shmget": 194, "shmat": 196, "semget": 190,
                "msgget": 186, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264,
                "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
                "kcmp": 272, "finit_module": 273, "memfd_create": 279, "bpf": 280, "userfaultfd": 282,
                **_NEW_CALLS,
            },
        ),
    }
)  # fmt: skip
MACHINES = tuple(_MACHINES)


def syscall_filter(machine: str | None = None) -> bytes | None:
    """The filter for an architecture (this one's by default); None if its calls are not known.

    Threads may be started, processes not (EPERM). A socket cannot be made: "Network is unreachable". Shared
    memory without a file (System V's, memfd_create, an anonymous shared mmap) is refused, because RLIMIT_DATA
    does not count it; an mmap of /dev/zero looks like that of a file, so that the sandbox must not have one.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, known.audit_number, yes=1),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
        # Another set of numbers for the same calls.
        _step(_JUMP_AT_LEAST, _X32, no=1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
        *_refuse(known.clone3, errno.ENOSYS),  # C libraries then use clone, whose flags can be seen
        *_refuse(known.socket, errno.ENETUNREACH),
    ]
    for number in known.refused.values():
        program += _refuse(number, errno.EPERM)
    program += _refuse_anonymous_shared(known.mmap)
    program += [
        _step(_JUMP_EQUAL, known.clone, no=3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_JUMP_BITS, _CLONE_THREAD, yes=1),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _refuse(number: int, error: int) -> list[bytes]:
    return [_step(_JUMP_EQUAL, number, no=1), _step(_RETURN, _ERRNO | error)]


def _refuse_anonymous_shared(mmap: int) -> list[bytes]:
    return [
        _step(_JUMP_EQUAL, mmap, no=5),
        _step(_LOAD, _FOURTH_ARGUMENT),  # its flags: the lower half, on machines that are little-endian
        _step(_JUMP_BITS, _MAP_ANONYMOUS, no=2),
        _step(_JUMP_BITS, _MAP_SHARED, no=1),  # also set in MAP_SHARED_VALIDATE
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are how many further ones to skip."""
    return struct.pack("=HBBI", code, yes, no, value)
