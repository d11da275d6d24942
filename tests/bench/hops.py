"""Where a process spends its time: samples of its stacks, in groups that are the hops of an I/O.

A sample belongs to the first group with a word that one of its frames has, the groups taken in order. Frames of the kernel are known by
the system call they are in; ours by crate and module, inlined ones too, innermost first.
"""
import re
import shutil
import subprocess

COPIES = r"rep_movs|copy_user|copy_page_(to|from)_iter|_copy_(to|from)_iter|copyin|copyout|memcpy|memmove|copy_nonoverlapping|copy_from_slice"
# Kernel: which call. The receiving half of loopback runs inside of the sender's call, or in a soft interrupt behind it.
KERNEL = [
    ("kernel: send", r"sendmsg|sock_write|writev|sock_sendmsg|tcp_sendmsg"),
    ("kernel: receive", r"recvmsg|recvfrom|sock_read|tcp_recvmsg|readv"),
    ("kernel: disk", r"blkdev|ext4|iomap|blk_mq|submit_bio|vfs_fsync|xfs_"),
    ("kernel: wait and wake", r"epoll|eventfd|futex|schedule|nanosleep|poll_idle|try_to_wake_up|io_cqring_wait|io_uring_enter"),
    ("kernel: network, behind a soft interrupt", r"net_rx_action|tcp_v4_rcv|__do_softirq|handle_softirqs"),
    ("kernel: other", r""),
]
OURS = [
    ("parse, frame (fabric::tcp, nvme)", r"fabric::tcp|^nvme::|<nvme::"),
    ("admit, answer (fabric::target)", r"fabric::target"),
    ("to and from legs (fabric::host)", r"fabric::host"),
    ("layers (block)", r"block::(slice|thin|mirror|concat|leg)|<block::"),
    ("node (disk_node, controller_node)", r"disk_node::|controller_node::"),
    ("disk (engine)", r"engine::.*(disk|ring|task|threads)"),
    ("loop, sockets, buffers (engine)", r"engine::"),
    ("maps, allocations (std, libc)", r"alloc::|BTreeMap|hashbrown|malloc|free|unlink_chunk"),
    ("other", r""),
]


def works():
    """Whether there is a profiler that may look: if not, why."""
    if not shutil.which("perf"):
        return "there is no perf here (Debian: linux-perf)"
    done = subprocess.run(["perf", "record", "-o", "/dev/null", "-g", "--", "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"perf does not work here: {done.stderr.strip().splitlines()[-1:]}"


def record(pid, seconds, data):
    """Begins; the caller keeps the load up meanwhile."""
    return subprocess.Popen(["perf", "record", "-F", "1999", "-g", "-p", str(pid), "-o", str(data), "--", "sleep", str(seconds)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def samples(data):
    """Of each sample its frames, innermost first."""
    done = subprocess.run(["perf", "script", "-i", str(data), "-F", "tid,ip,sym,dso"], capture_output=True, text=True, errors="replace")
    stack, found = [], []
    for line in done.stdout.splitlines():
        if not line.strip():
            if stack:
                found.append(stack)
            stack = []
        elif line[0] in " \t":
            frame = re.match(r"\s+[0-9a-f]+ (.*?)(?: \((\S+)\))?(?: \(inlined\))?$", line)
            if frame:
                stack.append((frame.group(1).strip(), "kernel" in (frame.group(2) or "")))
    if stack:
        found.append(stack)
    return found


def hop(stack):
    """Which group, and whether the sample is copying."""
    leaf, in_kernel = stack[0]
    copies = re.search(COPIES, leaf) is not None
    if in_kernel:
        frames = " ".join(symbol for symbol, kernel in stack if kernel)
        name = next(name for name, words in KERNEL if re.search(words, frames))
        return name + (", copying" if copies and "other" not in name else "")
    ours = [symbol for symbol, kernel in stack if not kernel]
    for symbol in ours:
        for name, words in OURS[:-1]:
            if re.search(words, symbol):
                return "copy (ours)" if copies else name
    return "copy (ours)" if copies else "other"


def shares(stacks):
    """group → its part of all samples, the largest first."""
    counts = {}
    for stack in stacks:
        name = hop(stack)
        counts[name] = counts.get(name, 0) + 1
    total = sum(counts.values()) or 1
    return {name: count / total for name, count in sorted(counts.items(), key=lambda item: -item[1])}


def leaves(stacks, most=12):
    """The innermost functions with the most samples: name → part of all."""
    counts = {}
    for stack in stacks:
        name = re.sub(r"::h[0-9a-f]{16}$", "", stack[0][0])
        counts[name] = counts.get(name, 0) + 1
    total = sum(counts.values()) or 1
    return {name: count / total for name, count in sorted(counts.items(), key=lambda item: -item[1])[:most]}
