"""Takes rights away from this process as a unit's directives would, then becomes the command.

Reads a JSON object from its first argument: uid, limits, umask, system calls and address families. Run by root inside
a sandbox, or by anybody, who then keeps his own user. libseccomp compiles the filters.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import sys

PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE = 65  # Linux 6.3
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
ALLOW = 0x7FFF0000
DENY = 0x00050000  # and an errno
NOT_EQUAL, EQUAL, AT_LEAST = 1, 4, 5
FAMILIES = 64  # more than there are


class Comparison(ctypes.Structure):
    """libseccomp's struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Filter:
    """One seccomp filter of the native architecture; others are killed."""

    def __init__(self, library: ctypes.CDLL, otherwise: int) -> None:
        library.seccomp_init.restype = ctypes.c_void_p
        self._library = library
        self._context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(otherwise)))

    def rule(self, action: int, name: str, *comparisons: Comparison) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # not of this architecture
        array = (Comparison * len(comparisons))(*comparisons)
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        if done not in (0, -errno.EEXIST):
            raise OSError(-done, f"no rule for {name}")

    def load(self) -> None:
        if done := self._library.seccomp_load(self._context):
            raise OSError(-done, "the filter was not loaded")


def main() -> None:
    wanted = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    library = ctypes.CDLL("libseccomp.so.2")
    os.umask(int(wanted["umask"], 8))
    for name, limit in wanted["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    if os.geteuid() == 0:
        for capability in range(64):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                break
        os.setgroups([])
        os.setresgid(wanted["uid"], wanted["uid"], wanted["uid"])
        os.setresuid(wanted["uid"], wanted["uid"], wanted["uid"])
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of 32 capabilities each
    if libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), nothing):
        raise OSError(ctypes.get_errno(), "the capabilities were not dropped")
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if wanted["deny_write_execute"] and libc.prctl(PR_SET_MDWE, 1, 0, 0, 0):
        print("not applied: MemoryDenyWriteExecute (this kernel has no PR_SET_MDWE)", file=sys.stderr, flush=True)

    calls = Filter(library, DENY | errno.EPERM)
    for name in wanted["system_calls"]:
        calls.rule(ALLOW, name)
    arguments = Filter(library, ALLOW)
    for family in set(range(FAMILIES)) - set(wanted["address_families"]):
        arguments.rule(DENY | errno.EAFNOSUPPORT, "socket", Comparison(0, EQUAL, family, 0))
    arguments.rule(DENY | errno.EAFNOSUPPORT, "socket", Comparison(0, AT_LEAST, FAMILIES, 0))
    arguments.rule(DENY | errno.EPERM, "personality", Comparison(0, NOT_EQUAL, 0, 0))
    arguments.load()
    calls.load()
    os.execve(wanted["command"][0], wanted["command"], wanted["environment"] | {"WATCHDOG_PID": str(os.getpid())})


if __name__ == "__main__":
    main()
