"""The calls that enqueue work, into a library of C that notes what it is given: there is no driver here."""

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from musetalk_runtime.backends.cuda import driver_calls
from musetalk_runtime.core.errors import MachineError

SOURCE = """
#include <stdint.h>
typedef uint64_t u;
u given[4];
int status;
static int note(u a, u b, u c, u d) { given[0] = a; given[1] = b; given[2] = c; given[3] = d; return status; }
int cuCtxGetCurrent(u* found) { *found = 0x7f0123456789; return status; }
int cuCtxSetCurrent(void* context) { return note((u)context, 0, 0, 0); }
int cuEventElapsedTime(float* ms, void* begin, void* end) { *ms = 2.5f; return note((u)begin, (u)end, 0, 0); }
int cuEventRecord(void* event, void* stream) { return note((u)event, (u)stream, 0, 0); }
int cuGraphExecEventRecordNodeSetEvent(void* g, void* node, void* event) { return note((u)g, (u)node, (u)event, 0); }
int cuGraphLaunch(void* graph, void* stream) { return note((u)graph, (u)stream, 0, 0); }
int cuMemcpyAsync(u to, u from, uint64_t size, void* stream) { return note(to, from, size, (u)stream); }
int cuStreamWaitEvent(void* stream, void* event, unsigned flags) { return note((u)stream, (u)event, flags, 0); }
"""
EVENT, STREAM, GRAPH, NODE = 0x7FAA00000010, 0x7FBB00000020, 0x7FCC00000030, 0x7FDD00000040
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.PyDLL]:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc for a library that notes its calls")
    (tmp_path / "driver.c").write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "driver.so", "driver.c"], cwd=tmp_path, check=True)
    library = ctypes.PyDLL(str(tmp_path / "driver.so"))
    monkeypatch.setattr(ctypes, "PyDLL", {"libcuda.so.1": library}.__getitem__)  # not CDLL, which lets the lock go
    driver_calls.libcuda.cache_clear()
    yield library
    driver_calls.libcuda.cache_clear()


def given(driver: ctypes.PyDLL) -> list[int]:
    return list((ctypes.c_uint64 * 4).in_dll(driver, "given"))


def test_handles_addresses_and_sizes_arrive_whole(driver: ctypes.PyDLL) -> None:
    event, stream, graph = (SimpleNamespace(handle=handle) for handle in (EVENT, STREAM, GRAPH))
    driver_calls.record(event, stream)
    assert given(driver) == [EVENT, STREAM, 0, 0]
    driver_calls.wait(stream, event)
    assert given(driver) == [STREAM, EVENT, 0, 0]
    driver_calls.copy(1 << 47, (1 << 47) + 1, 5 << 30, stream)
    assert given(driver) == [1 << 47, (1 << 47) + 1, 5 << 30, STREAM]
    driver_calls.copy(1, 2, 0, stream)
    assert given(driver)[2] == 5 << 30, "there is nothing to copy"
    driver_calls.set_event(graph, NODE, event)
    assert given(driver) == [GRAPH, NODE, EVENT, 0]
    driver_calls.launch(graph, stream)
    assert given(driver) == [GRAPH, STREAM, 0, 0]
    assert driver_calls.elapsed(event, SimpleNamespace(handle=EVENT + 8)) == 2.5
    assert given(driver) == [EVENT, EVENT + 8, 0, 0]
    driver_calls.make_current(driver_calls.current_context())
    assert given(driver) == [0x7F0123456789, 0, 0, 0]


def test_what_fails_is_told(driver: ctypes.PyDLL) -> None:
    pytest.importorskip("cuda.bindings.driver")
    ctypes.c_int.in_dll(driver, "status").value = OUT_OF_MEMORY
    with pytest.raises(MachineError, match="the GPU is out of memory"):
        driver_calls.record(SimpleNamespace(handle=EVENT), SimpleNamespace(handle=STREAM))
