"""Files that planes need are made once: by whichever shard is free, and no more than it can do."""

import threading
import time
from types import SimpleNamespace

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory, Shard, publish_sealed
from dip_pipeline.engine.executors import open_pool
from dip_pipeline.progress import SILENT, Told
from dip_pipeline.runs.place import Place
from dip_pipeline.runs.providing import _provide

NAMES = [f"prior-{number}.keyed" for number in range(6)]


def provided(folder, shard, work):
    run = RunDirectory.open(folder / "out.dip", {"a": 1}, shard=shard)
    tasks = {name: SimpleNamespace(path=run.path / name) for name in NAMES}
    with run, open_pool(RunConfig().worker_options()) as pool:
        _provide(tasks, work, run, Place(pool, shard=shard), Told(SILENT, "out"))


def test_shards_share_what_is_to_be_made_and_each_is_made_once(tmp_path):
    """Both begin together: while one is at a file the other takes the next."""
    made, both = {1: [], 2: []}, threading.Barrier(2)

    def shard(number):
        def work(task, on_step=None):
            if not made[number]:
                both.wait(timeout=10)
            time.sleep(0.02)
            made[number].append(task.path.name)
            publish_sealed(task.path, [b"weights"])

        provided(tmp_path, Shard(number, 2), work)

    threads = [threading.Thread(target=shard, args=(number,)) for number in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(made[1] + made[2]) == NAMES
    assert made[1]
    assert made[2]


def test_a_file_that_is_there_is_read_once(tmp_path, monkeypatch):
    looked = []
    real = RunDirectory.find_file

    def find_file(run, name):
        found = real(run, name)
        looked.extend([name] if found else [])
        return found

    def work(task, on_step=None):
        publish_sealed(task.path, [b"weights"])

    monkeypatch.setattr(RunDirectory, "find_file", find_file)
    provided(tmp_path, Shard(1, 1), work)
    assert sorted(looked) == NAMES
