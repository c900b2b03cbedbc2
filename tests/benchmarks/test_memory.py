import subprocess
import sys

from benchmarks.memory import peak_bytes


def test_a_process_is_told_its_own_memory_not_that_of_the_one_that_started_it():
    ballast = bytearray(b"x" * (500 << 20))
    asked = "from benchmarks.memory import peak_bytes; print(peak_bytes())"
    told = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True).stdout
    assert 1 << 20 < int(told) < 100 << 20
    assert peak_bytes() > len(ballast)
