"""One timed process: its wall time, and the CPU and peak memory of it and of its servers.

Knows processes and /proc, and nothing of the tools that are compared.
"""

import os
import resource
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import BenchError, Command, log_tail, started

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_EVERY_MS = 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What one command took: seconds and bytes.

    `client` is the command with every process it waited for, `server` the servers it talked to
    during that time (None: there was none). Three figures show a run that was disturbed:
    `other_cpu` is what the rest of the machine burnt meanwhile, the kernel's own threads included,
    `stolen` the time for which a virtual machine's cores had work and the host did not run them,
    `disk_read` what had to be read from disks because the page cache did not hold it (any more).
    """

    wall: float
    client_cpu: float
    server_cpu: float
    client_peak: int
    server_peak: int | None
    other_cpu: float
    stolen: float
    disk_read: int


def measure(command: Command, servers: Sequence[int] = ()) -> Usage:
    """Run the command to its end and account for it and for the processes `servers`.

    Raises BenchError with the end of its log if it fails. Whatever interrupts the wait kills it.
    """
    for pid in servers:
        _restart_peak(pid)
    servers_before = sum(cpu_seconds(pid) for pid in servers)
    busy_before, stolen_before = _machine_seconds()
    read_before = _disk_read()
    wall, sampled_peak, status, usage = _run(command)
    read = _disk_read() - read_before
    busy, stolen = _machine_seconds()
    server_cpu = sum(cpu_seconds(pid) for pid in servers) - servers_before
    server_peaks = [_peak(pid) for pid in servers]
    if code := os.waitstatus_to_exitcode(status):
        raise BenchError(f"{' '.join(command.argv)}: exit status {code}{log_tail(command.log)}")
    if not all(server_peaks):
        raise BenchError(f"{' '.join(command.argv)}: the server ended meanwhile")
    client_cpu = usage.ru_utime + usage.ru_stime
    return Usage(
        wall=wall,
        client_cpu=client_cpu,
        server_cpu=server_cpu,
        client_peak=_client_peak(usage.ru_maxrss * 1024, sampled_peak),
        server_peak=max(server_peaks, default=None),
        other_cpu=max(0.0, busy - busy_before - client_cpu - server_cpu),
        stolen=stolen - stolen_before,
        disk_read=read,
    )


def cpu_seconds(pid: int) -> float:
    """CPU of a running process, of its threads and of the children it has waited for."""
    # The name in the second field may hold blanks and brackets: count from the last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _run(command: Command) -> tuple[float, int, int, resource.struct_rusage]:
    began = time.perf_counter()
    with started(command) as child:
        peak = _wait_sampling(child.pid)
        wall = time.perf_counter() - began
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return wall, peak, status, usage


def _wait_sampling(pid: int) -> int:
    """Return, as soon as the process has ended, the highest peak seen of it (0: none seen)."""
    ended = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        peak = _peak(pid)
        while not poller.poll(_SAMPLE_EVERY_MS):
            peak = max(peak, _peak(pid))
    finally:
        os.close(ended)
    return peak


def _client_peak(reported: int, sampled: int) -> int:
    # The kernel carries the peak of the process that forked over into the child's, past exec. So
    # the reported figure is the child's own only where it is above ours; else the sampled one is
    # the better.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return reported if reported > own else sampled


def _peak(pid: int) -> int:
    """The greatest resident size of a process in bytes; 0 once it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _restart_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _machine_seconds() -> tuple[float, float]:
    """What all cores have burnt since the machine started, and what was stolen from them."""
    with Path("/proc/stat").open() as stat:
        fields = stat.readline().split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq) / _TICKS, steal / _TICKS


def _disk_read() -> int:
    """Bytes that have been read from disks since the machine started."""
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(fields["pgpgin"]) * 1024
