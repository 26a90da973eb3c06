//! The emulated driver behaves as the real one where the backend relies on it: capture, graphs, errors, arithmetic.
#![allow(unsafe_code, reason = "these tests call a C interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panics"
)]

#[macro_use]
mod driving;
mod emulator;

use std::ffi::{c_int, c_uint};
use std::ptr::null_mut;

use driving::{Device, Handle, Job};

const ADD: &str = r#"
extern "C" __global__ void __launch_bounds__(32) k_add(const float* __restrict__ r0, const float* __restrict__ r1, float* __restrict__ w0) {
    w0[threadIdx.x] = r0[threadIdx.x] + r1[threadIdx.x];
}
BP_ENTRY(k_add)
"#;
const JOB: Job = Job {
    grid: [1, 1, 1],
    block: [32, 1, 1],
    shared: 0,
};

/// A stream, and an event.
fn stream(device: &Device) -> Handle {
    let mut stream = null_mut();
    assert_eq!(
        call!(
            device.cuda(),
            "cuStreamCreate",
            (*mut Handle, c_uint),
            &mut stream,
            1
        ),
        0
    );
    stream
}

fn wait(device: &Device, before: Handle, after: Handle) {
    let mut event = null_mut();
    call!(
        device.cuda(),
        "cuEventCreate",
        (*mut Handle, c_uint),
        &mut event,
        2
    );
    assert_eq!(
        call!(
            device.cuda(),
            "cuEventRecord",
            (Handle, Handle),
            event,
            before
        ),
        0
    );
    assert_eq!(
        call!(
            device.cuda(),
            "cuStreamWaitEvent",
            (Handle, Handle, c_uint),
            after,
            event,
            0
        ),
        0
    );
    call!(device.cuda(), "cuEventDestroy_v2", (Handle), event);
}

fn begin(device: &Device, stream: Handle) {
    assert_eq!(
        call!(
            device.cuda(),
            "cuStreamBeginCapture_v2",
            (Handle, c_int),
            stream,
            1
        ),
        0
    );
}

fn end(device: &Device, stream: Handle) -> Result<Handle, c_int> {
    let (mut graph, mut executable, mut count) = (null_mut(), null_mut(), 0);
    let status = call!(
        device.cuda(),
        "cuStreamEndCapture",
        (Handle, *mut Handle),
        stream,
        &mut graph
    );
    if status != 0 {
        return Err(status);
    }
    call!(
        device.cuda(),
        "cuGraphGetNodes",
        (Handle, *mut Handle, *mut usize),
        graph,
        null_mut(),
        &mut count
    );
    assert!(count > 0);
    assert_eq!(
        call!(
            device.cuda(),
            "cuGraphInstantiateWithFlags",
            (*mut Handle, Handle, u64),
            &mut executable,
            graph,
            0
        ),
        0
    );
    call!(device.cuda(), "cuGraphDestroy", (Handle), graph);
    Ok(executable)
}

fn replay(device: &Device, executable: Handle, stream: Handle) {
    assert_eq!(
        call!(
            device.cuda(),
            "cuGraphLaunch",
            (Handle, Handle),
            executable,
            stream
        ),
        0
    );
    assert_eq!(
        call!(device.cuda(), "cuStreamSynchronize", (Handle), stream),
        0
    );
}

/// Doubles on a second stream what a copy brings, and adds; `joins` says whether the second stream waits for the first.
fn doubled_on_a_fork(device: &Device, waits: &str) -> (f32, f32) {
    let (a, b, c) = (
        device.upload(&[1.0; 32]),
        device.upload(&[0.0; 32]),
        device.upload(&[0.0; 32]),
    );
    let add = device.function(device.compile(ADD).unwrap(), "k_add");
    let (main, side) = (stream(device), stream(device));
    begin(device, main);
    if waits == "too early" {
        wait(device, main, side);
    }
    assert_eq!(
        call!(
            device.cuda(),
            "cuMemcpyDtoDAsync_v2",
            (u64, u64, usize, Handle),
            b,
            a,
            128,
            main
        ),
        0
    );
    if waits == "right" {
        wait(device, main, side);
    }
    assert_eq!(device.launch_on(side, add, JOB, &[b, b, c]), 0);
    wait(device, side, main);
    assert_eq!(device.launch_on(main, add, JOB, &[c, a, c]), 0);
    let graph = end(device, main).unwrap();
    assert!(
        device.download(c, 32).iter().all(|x| *x == 0.0),
        "nothing runs while it is captured"
    );
    let mut values = [0.0; 2];
    for value in &mut values {
        call!(device.cuda(), "cuMemsetD8_v2", (u64, u8, usize), b, 0, 128);
        replay(device, graph, main);
        *value = device.download(c, 32)[31];
        device.write(a, &[10.0; 32]);
    }
    call!(device.cuda(), "cuGraphExecDestroy", (Handle), graph);
    for s in [main, side] {
        assert_eq!(call!(device.cuda(), "cuStreamDestroy_v2", (Handle), s), 0);
    }
    device.free(&[a, b, c]);
    (values[0], values[1])
}

#[test]
fn a_graph_runs_what_was_captured_on_both_streams() {
    for order in ["", "backward", "random"] {
        let Some(device) = Device::open(order, "", "") else {
            return;
        };
        assert_eq!(doubled_on_a_fork(&device, "right"), (3.0, 30.0));
    }
}

#[test]
fn a_fork_that_waits_too_early_shows_in_another_order_of_nodes() {
    let Some(device) = Device::open("backward", "", "") else {
        return;
    };
    assert_ne!(doubled_on_a_fork(&device, "too early"), (3.0, 30.0));
}

#[test]
fn what_a_capture_forbids_breaks_it() {
    let Some(device) = Device::plain() else {
        return;
    };
    let (main, side) = (stream(&device), stream(&device));
    let add = device.function(device.compile(ADD).unwrap(), "k_add");
    let a = device.upload(&[1.0; 32]);
    begin(&device, main);
    assert_eq!(
        call!(device.cuda(), "cuStreamSynchronize", (Handle), main),
        900
    );
    assert_eq!(end(&device, main), Err(901));
    begin(&device, main);
    let mut at = 0;
    assert_eq!(
        call!(
            device.cuda(),
            "cuMemAlloc_v2",
            (*mut u64, usize),
            &mut at,
            64
        ),
        900
    );
    assert_eq!(end(&device, main), Err(901));
    begin(&device, main);
    wait(&device, main, side);
    assert_eq!(device.launch_on(side, add, JOB, &[a, a, a]), 0);
    assert_eq!(
        end(&device, main),
        Err(904),
        "the side stream is not joined"
    );
    assert_eq!(
        call!(
            device.cuda(),
            "cuMemAlloc_v2",
            (*mut u64, usize),
            &mut at,
            64
        ),
        0
    );
}

#[test]
fn launches_obey_the_limits_of_shared_memory() {
    let Some(device) = Device::plain() else {
        return;
    };
    let add = device.function(
        device.compile(&ADD.replace("k_add", "k_limits")).unwrap(),
        "k_limits",
    );
    let a = device.upload(&[1.0; 32]);
    let large = Job {
        shared: 60 << 10,
        ..JOB
    };
    assert_eq!(device.launch_on(null_mut(), add, large, &[a, a, a]), 1);
    assert_eq!(
        call!(
            device.cuda(),
            "cuFuncSetAttribute",
            (Handle, c_int, c_int),
            add,
            8,
            60 << 10
        ),
        0
    );
    assert_eq!(device.launch_on(null_mut(), add, large, &[a, a, a]), 0);
    assert_eq!(
        call!(
            device.cuda(),
            "cuFuncSetAttribute",
            (Handle, c_int, c_int),
            add,
            8,
            228 << 10
        ),
        1
    );
    assert_eq!(
        device.launch_on(
            null_mut(),
            add,
            Job {
                block: [1025, 1, 1],
                ..JOB
            },
            &[a, a, a]
        ),
        1
    );
}

#[test]
fn the_driver_fails_as_it_is_told() {
    let (mut version, mut at) = (0, 0_u64);
    let Some(device) = Device::open("", "old", "") else {
        return;
    };
    call!(
        device.cuda(),
        "cuDriverGetVersion",
        (*mut c_int),
        &mut version
    );
    assert_eq!(version, 12040);
    let device = Device::open("", "nodevice", "").unwrap();
    assert_eq!(call!(device.cuda(), "cuInit", (c_uint), 0), 100);
    let device = Device::open("", "oom:1000", "").unwrap();
    assert_eq!(
        call!(
            device.cuda(),
            "cuMemAlloc_v2",
            (*mut u64, usize),
            &mut at,
            1001
        ),
        2
    );
    assert_eq!(
        call!(
            device.cuda(),
            "cuMemAlloc_v2",
            (*mut u64, usize),
            &mut at,
            1000
        ),
        0
    );
    let device = Device::open("", "noop", "").unwrap();
    let output = device.upload(&[5.0; 32]);
    let module = device.load(b"no code at all\0");
    device.launch(module, "k_anything", JOB, &[output]).unwrap();
    assert_eq!(device.download(output, 1), [5.0]);
}

#[test]
fn a_compiler_error_is_in_the_log() {
    let Some(device) = Device::plain() else {
        return;
    };
    let log = device
        .compile("int f() { return undeclared; }")
        .unwrap_err();
    assert!(log.contains("undeclared"), "{log}");
}

/// One value a thread, as float; `expression` may use `x`, the thread's number divided by 32.
fn values(device: &Device, expression: &str) -> Vec<f32> {
    let source = format!(
        "extern \"C\" __global__ void k_value(float* __restrict__ w0) {{ float x = threadIdx.x / 32.0f; unsigned t = threadIdx.x; w0[t] = {expression}; }}\nBP_ENTRY(k_value)"
    );
    let output = device.upload(&[0.0; 32]);
    device
        .launch(device.compile(&source).unwrap(), "k_value", JOB, &[output])
        .unwrap();
    device.download(output, 32)
}

#[test]
fn arithmetic_is_that_of_the_device() {
    let Some(device) = Device::plain() else {
        return;
    };
    for check in [
        "float(erf(erfinv(double(x))) - double(x)) * 4e15f",
        "fabsf(erff(erfinvf(x)) - x) * 4e6f",
        "float(erfc(erfinv(1.0 - 1e-15 * (t + 1))) / (1.0 - (1.0 - 1e-15 * (t + 1))) - 1.0) * 1e14f",
    ] {
        let worst = values(&device, check)
            .iter()
            .fold(0.0_f32, |m, x| m.max(x.abs()));
        assert!(worst <= 2.0, "{check}: {worst}");
    }
    assert_eq!(
        values(&device, "max(t, 7) + min(int(t), 3)")[..5],
        [7.0, 8.0, 9.0, 10.0, 10.0]
    );
    assert_eq!(
        values(
            &device,
            "sizeof(exp(x)) + sizeof(fma(x, x, x)) + sizeof(rint(double(x)))"
        )[0],
        16.0
    );
    assert_eq!(
        values(&device, "max(x, __int_as_float(0x7fc00000))")[16],
        0.5
    );
    assert_eq!(
        values(
            &device,
            "__popc(t) + __clz(t) + __ffs(t) + __umulhi(t, 0x80000000u)"
        )[6],
        2.0 + 29.0 + 2.0 + 3.0
    );
    assert_eq!(
        values(
            &device,
            "__shfl_down_sync(~0u, t, 1) + __shfl_up_sync(~0u, t, 2)"
        )[30..],
        [59.0, 60.0]
    );
    assert_eq!(
        values(
            &device,
            "__shfl_sync(~0u, (long long)(t), 3, 8) + __shfl_xor_sync(~0u, double(t), 1)"
        )[9],
        11.0 + 8.0
    );
    assert_eq!(
        values(
            &device,
            "__ballot_sync(~0u, t < 5) + __any_sync(~0u, t == 9) + 2 * __all_sync(~0u, t < 32) + 10 * __syncthreads_count(t & 1)"
        )[0],
        31.0 + 3.0 + 160.0
    );
}

/// cudarc looks for the driver by name: a library with that name which is loaded already is what it gets.
#[test]
fn cudarc_works_on_the_emulated_driver() {
    use cudarc::driver::{CudaContext, sys};
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    let Ok(folder) = emulator::libraries() else {
        return;
    };
    // SAFETY: the emulator's library runs no code when it is loaded.
    let library =
        unsafe { Library::open(Some(folder.join("libcuda.so.1")), RTLD_NOW | RTLD_GLOBAL) };
    std::mem::forget(library.unwrap());
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.name().unwrap(), "Emulated device");
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
    let stream = context.new_stream().unwrap();
    let mut source = stream.clone_htod(&[1.0_f32, 2.0, 3.0]).unwrap();
    let mut target = stream.alloc_zeros::<f32>(3).unwrap();
    stream.synchronize().unwrap();
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    // SAFETY: one stream orders all the work.
    unsafe { context.disable_event_tracking() };
    stream.begin_capture(mode).unwrap();
    stream.memcpy_dtod(&source, &mut target).unwrap();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    for value in [4.0, 5.0] {
        stream.memcpy_htod(&[value; 3], &mut source).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&target).unwrap(), [value; 3]);
    }
}
