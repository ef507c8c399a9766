"""What a disk may hold after the power was cut, for every moment of a process that really ran.

`kill -9` shows nothing of this: the kernel still writes what the process had handed over. Here the writes of a real
process are recorded with `strace` (`trace`), and for every prefix of them the directory is built as a disk could hold
it (`disk`): what no fsync had covered is dropped, kept, kept in part, or torn in the middle of a sector row.

Not shown: memory-mapped writes (refused while parsing, but for SQLite's -shm, which it makes anew), a disk that lies
about fsync, and damage to what was already safe.
"""

from tools.powerloss.disk import Crash, crashes, replay
from tools.powerloss.trace import PowerlossError, Recording, parse, record, snapshot, traced

__all__ = ["Crash", "PowerlossError", "Recording", "crashes", "parse", "record", "replay", "snapshot", "traced"]
