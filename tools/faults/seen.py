"""What the kernel sees of a run beside what the layer has counted: no call that changes a file may escape it."""
import collections, os, re, subprocess

LOOKS = {
    "read", "pread64", "readv", "statx", "newfstatat", "fstat", "stat", "lstat", "lseek", "close", "getdents64", "fcntl",
    "readlink", "readlinkat", "access", "faccessat", "faccessat2", "getcwd", "chdir", "ioctl", "execve", "fadvise64", "statfs",
}
KINDS = {
    "write": "write", "pwrite64": "write", "writev": "write", "copy_file_range": "write", "sendfile": "write",
    "fsync": "sync", "fdatasync": "sync", "ftruncate": "cut", "flock": "lock", "rename": "rename", "renameat": "rename",
    "renameat2": "rename", "mkdir": "mkdir", "mkdirat": "mkdir", "unlink": "unlink", "rmdir": "rmdir", "link": "link",
    "linkat": "link", "symlink": "link", "symlinkat": "link", "chmod": "chmod", "fchmod": "chmod", "fchmodat": "chmod",
}


def kind_of(name, words):
    if name in ("open", "openat", "creat"):
        return "open" if name == "creat" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", words) else None
    if name == "unlinkat":
        return "rmdir" if "AT_REMOVEDIR" in words else "unlink"
    if name == "mmap":
        return "mmap" if "PROT_WRITE" in words and "MAP_SHARED" in words else None
    return None if name in LOOKS else KINDS.get(name, name)


def path_of(name, words, work):
    """The path that a call is about: of an open file, or of its last name."""
    names = re.findall(r'(?:(\w+)<([^>]*)>, )?"([^"]*)"', words)
    opened = re.findall(r"\d+<(/[^>]*)>", words)
    if name in ("write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "flock", "fchmod", "mmap") or not names:
        return opened[0] if opened else None
    _, folder, last = names[-1]
    return os.path.normpath(os.path.join(folder or work, last))


def by_strace(command, work, environment, trace):
    """Runs a command and counts by kind the calls below `work` that change something."""
    subprocess.run(
        ["strace", "-f", "-y", "-s", "4096", "-e", "signal=none", "-e", "trace=%file,%desc", "-o", trace, "env", "-u", "LD_PRELOAD",
         *[f"{name}={value}" for name, value in environment.items()], *command],
        cwd=work, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    seen = collections.Counter()
    with open(trace, errors="replace") as lines:
        for line in lines:
            found = re.match(r"\d+ +(\w+)\((.*)", line)
            if not found:
                continue
            name, words = found[1], re.split(r"\) += |<unfinished", found[2])[0]
            if name == "write":
                # What is written may look like a path.
                words = words.split(", ")[0]
            kind, path = kind_of(name, words), path_of(name, words, work)
            if kind and path and (path == work or path.startswith(work + "/")):
                seen[kind] += 1
    return seen
