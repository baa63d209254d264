import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from xsae.run import pool


def twice(x, wait=0.0):
    time.sleep(wait)
    return 2 * x, torch.get_num_threads(), os.getpid()


def test_results_come_in_the_order_of_the_jobs_from_processes_of_one_thread():
    found = pool.run(twice, [(1, 0.5), (2,) + (0.0,), (3, 0.0)], "jobs")
    assert [value for value, _, _ in found] == [2, 4, 6]
    assert {threads for _, threads, _ in found} == {1} and os.getpid() not in {pid for _, _, pid in found}
    [(value, _, pid)] = pool.run(twice, [(4,)], "jobs", side_by_side=False)
    assert value == 8 and pid == os.getpid()


def test_the_first_error_is_raised_as_it_was():
    with pytest.raises(ValueError, match="invalid literal for int"):
        pool.run(int, [("1",), ("two",), ("3",)], "jobs")


def test_workers_end_with_a_process_that_is_killed():
    code = "import time; from xsae.run import pool; pool.run(time.sleep, [(60,), (60,)], 'a')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline, workers = time.time() + 120, []
    while len(workers) < 4 and time.time() < deadline:  # two workers, what they are copies of, and its tracker
        time.sleep(0.2)
        workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 4
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=30)
    assert not left
