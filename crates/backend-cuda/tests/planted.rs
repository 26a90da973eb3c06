//! The emulator finds what is planted into kernels: each fault by name, and none in the kernel that has no fault.
#![allow(unsafe_code, reason = "these tests call a C interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panics"
)]

mod driving;
mod emulator;

use driving::{Device, Job};

/// Sums each row of 128 threads through shared memory and shuffles, and divides by the sum.
const GOOD: &str = r#"
extern "C" __global__ void __launch_bounds__(128) k_good(const float* __restrict__ r0, float* __restrict__ w0) {
    __shared__ float part[4];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    float total = 0.0f;
    for (int i = 0; i < 2; i++) {
        float x = r0[(blockIdx.x * 2 + i) * 128 + t];
        float sum = x;
        for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
        if (lane == 0) part[warp] = sum;
        __syncthreads(); // first
        total = part[0] + part[1] + part[2] + part[3];
        __syncthreads(); // second
        w0[(blockIdx.x * 2 + i) * 128 + t] = x / total;
    }
}
BP_ENTRY(k_good)
"#;

/// What the kernel above gives for three blocks, or the emulator's message.
fn run(device: &Device, source: &str) -> Result<Vec<f32>, String> {
    let input: Vec<f32> = (0..768).map(|i| 1.0 + (i * 37 % 101) as f32).collect();
    let module = device
        .compile(source)
        .map_err(|log| panic!("{log}"))
        .unwrap();
    let (from, to) = (device.upload(&input), device.upload(&[0.0; 768]));
    let job = Job {
        grid: [3, 1, 1],
        block: [128, 1, 1],
        shared: 0,
    };
    let result = device
        .launch(module, "k_good", job, &[from, to])
        .map(|()| device.download(to, 768));
    device.free(&[from, to]);
    result
}

fn expected() -> Vec<f32> {
    let input: Vec<f32> = (0..768).map(|i| 1.0 + (i * 37 % 101) as f32).collect();
    input
        .chunks(128)
        .flat_map(|row| row.iter().map(|x| x / row.iter().sum::<f32>()))
        .collect()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.iter()
        .zip(b)
        .all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
}

fn planted(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the kernel has no {from:?}");
    GOOD.replacen(from, to, 1)
}

fn checked_message(source: &str) -> String {
    let Some(device) = Device::checked() else {
        return String::new();
    };
    run(&device, source)
        .map(|_| ())
        .expect_err("the fault is not found")
}

/// Whether `source` goes wrong on the checked emulator with a message that has all of these words.
fn is_found(source: &str, words: &[&str]) {
    if Device::checked().is_none() {
        return;
    }
    let message = checked_message(source);
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn the_good_kernel_is_right_in_every_order() {
    for order in ["turn", "forward", "backward", "random", "7", "rotate"] {
        for check in ["", "1"] {
            let Some(device) = Device::open(order, "", check) else {
                return;
            };
            let output = run(&device, GOOD).unwrap();
            assert!(
                close(&output, &expected()),
                "order {order}, check {check:?}"
            );
        }
    }
}

#[test]
fn a_removed_barrier_is_a_race() {
    is_found(
        &planted("__syncthreads(); // first", ""),
        &["shared-memory race"],
    );
    is_found(
        &planted("__syncthreads(); // second", ""),
        &["shared-memory race: write after read"],
    );
}

#[test]
fn the_plain_emulator_shows_a_removed_barrier_in_some_order() {
    let source = planted("__syncthreads(); // second", "");
    let mut wrong = 0;
    for order in ["forward", "backward", "random"] {
        let Some(device) = Device::open(order, "", "") else {
            return;
        };
        wrong += usize::from(!close(&run(&device, &source).unwrap(), &expected()));
    }
    assert!(wrong > 0);
}

#[test]
fn lanes_of_a_warp_race_without_a_syncwarp() {
    let exchange = "part[warp] = 0.0f; __shared__ float lanes[128]; lanes[t] = x; @ sum += lanes[t ^ 1] * 0.0f;";
    let source = planted(
        "if (lane == 0) part",
        &format!(
            "{} if (lane == 0) part",
            exchange.replace("part[warp] = 0.0f; ", "").replace('@', "")
        ),
    );
    is_found(&source, &["shared-memory race", "no __syncwarp"]);
    let source = planted(
        "if (lane == 0) part",
        "__shared__ float lanes[128]; lanes[t] = x; __syncwarp(); sum += lanes[t ^ 1] * 0.0f; __syncwarp(); if (lane == 0) part",
    );
    if let Some(device) = Device::checked() {
        assert!(close(&run(&device, &source).unwrap(), &expected()));
    }
}

#[test]
fn uninitialised_shared_memory_is_nan() {
    let Some(device) = Device::plain() else {
        return;
    };
    let output = run(
        &device,
        &planted("if (lane == 0) part[warp]", "if (t == 0) part[warp]"),
    )
    .unwrap();
    assert!(output.iter().all(|x| x.is_nan()));
}

#[test]
fn an_index_past_the_end_is_found() {
    is_found(
        &planted(
            "r0[(blockIdx.x * 2 + i) * 128 + t]",
            "r0[(blockIdx.x * 2 + i) * 128 + t + 1]",
        ),
        &[
            "out of bounds read of 4 bytes by thread 127",
            "block (2,0,0)",
        ],
    );
    is_found(
        &planted(
            "w0[(blockIdx.x * 2 + i) * 128 + t]",
            "w0[(blockIdx.x * 2 + i) * 128 + t * 9]",
        ),
        &["out of bounds write of 4 bytes"],
    );
    is_found(
        &planted("part[warp] = sum", "part[warp + 40] = sum"),
        &["out of bounds write", "shared memory"],
    );
}

#[test]
fn an_argument_ends_where_its_extent_says() {
    let Some(device) = Device::checked() else {
        return;
    };
    let module = device.compile(GOOD).unwrap();
    let (from, to) = (device.upload(&[1.0; 1024]), device.upload(&[0.0; 1024]));
    let job = Job {
        grid: [3, 1, 1],
        block: [128, 1, 1],
        shared: 0,
    };
    device.next_extents(&[768 * 4, 768 * 4]);
    device.launch(module, "k_good", job, &[from, to]).unwrap();
    device.next_extents(&[768 * 4, 767 * 4]);
    let message = device
        .launch(module, "k_good", job, &[from, to])
        .unwrap_err();
    assert!(message.contains("out of bounds write"), "{message}");
}

#[test]
fn a_write_to_a_constant_argument_is_found() {
    is_found(
        &planted(
            "float total = 0.0f;",
            "float total = 0.0f; ((float*)r0)[t] = 1.0f;",
        ),
        &["write to a read-only argument by thread 0"],
    );
}

#[test]
fn a_barrier_in_two_branches_is_divergent() {
    let source = planted(
        "__syncthreads(); // first",
        "if (t < 64) { __syncthreads(); } else {\n __syncthreads(); }",
    );
    let Some(device) = Device::plain() else {
        return;
    };
    let message = run(&device, &source).unwrap_err();
    assert!(
        message.contains("divergent __syncthreads") && message.contains("k_good, block (0,0,0)"),
        "{message}"
    );
}

#[test]
fn a_full_mask_with_half_a_warp_never_completes() {
    let source = planted("for (int o = 16;", "if (lane < 16) for (int o = 16;");
    let Some(device) = Device::plain() else {
        return;
    };
    let message = run(&device, &source).unwrap_err();
    assert!(
        message.contains("never completes: lanes 0000ffff of mask ffffffff")
            && message.contains("line 9"),
        "{message}"
    );
}

#[test]
fn two_blocks_that_write_one_address_race() {
    is_found(
        &planted("w0[(blockIdx.x * 2 + i) * 128 + t]", "w0[i * 128 + t]"),
        &["race between blocks in global memory: write after write"],
    );
}

/// The last block adds up what all blocks stored: right only with a fence before the counter.
const LAST_BLOCK: &str = r#"
extern "C" __global__ void __launch_bounds__(32) k_last(float* __restrict__ w0, unsigned* __restrict__ w1, float* __restrict__ w2) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        w0[blockIdx.x] = float(blockIdx.x + 1);
        __threadfence();
        last = atomicAdd(w1, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x > 0) return;
    float sum = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++) sum += w0[i];
    *w2 = sum;
    *w1 = 0;
}
BP_ENTRY(k_last)
"#;

#[test]
fn a_counter_orders_blocks_only_with_a_fence() {
    let Some(device) = Device::checked() else {
        return;
    };
    let (parts, counter, sum) = (
        device.upload(&[0.0; 8]),
        device.upload(&[0.0]),
        device.upload(&[0.0]),
    );
    let job = Job {
        grid: [8, 1, 1],
        block: [32, 1, 1],
        shared: 0,
    };
    let module = device.compile(LAST_BLOCK).unwrap();
    for _ in 0..2 {
        device
            .launch(module, "k_last", job, &[parts, counter, sum])
            .unwrap();
        assert_eq!(device.download(sum, 1), [36.0]);
    }
    let module = device
        .compile(&LAST_BLOCK.replace("__threadfence();", ""))
        .unwrap();
    let message = device
        .launch(module, "k_last", job, &[parts, counter, sum])
        .unwrap_err();
    assert!(message.contains("race between blocks"), "{message}");
}

#[test]
fn a_copy_that_nobody_waited_for_does_not_arrive() {
    let source = r#"
extern "C" __global__ void __launch_bounds__(32) k_copy(const float* __restrict__ r0, float* __restrict__ w0) {
    BP_DYN_SHARED(float, tile);
    const int t = threadIdx.x;
    for (int i = 0; i < 2; i++) {
        bp_host_copy_async(tile + i * 32 + t, r0 + i * 32 + t, 4, 4);
        bp_host_copy_commit();
    }
    bp_host_copy_wait(1);
    w0[t] = tile[t];
    w0[32 + t] = tile[32 + t];
    bp_host_copy_wait(0);
}
BP_ENTRY(k_copy)
"#;
    for check in ["", "1"] {
        let Some(device) = Device::open("", "", check) else {
            return;
        };
        let (from, to) = (device.upload(&[3.0; 64]), device.upload(&[0.0; 64]));
        let module = device.compile(source).unwrap();
        let job = Job {
            grid: [1, 1, 1],
            block: [32, 1, 1],
            shared: 256,
        };
        device.launch(module, "k_copy", job, &[from, to]).unwrap();
        let output = device.download(to, 64);
        assert!(output[..32].iter().all(|x| *x == 3.0) && output[32..].iter().all(|x| x.is_nan()));
    }
}

/// Nothing here is wrong: neighbouring bytes of several threads and blocks, an argument given twice, a partial mask,
/// a thread's own array, and a flag read as volatile.
const LEGAL: &str = r#"
extern "C" __global__ void __launch_bounds__(48) k_legal(const float* __restrict__ r0, float* __restrict__ w0, unsigned char* __restrict__ w1) {
    __shared__ unsigned char bytes[48];
    const int t = threadIdx.x, i = blockIdx.x * 48 + t;
    float own[8];
    for (int k = 0; k < 8; k++) own[(k + t) % 8] = r0[i] + k;
    bytes[t] = (unsigned char)t;
    w1[i] = (unsigned char)(i + ((volatile unsigned char*)bytes)[t]);
    float sum = own[t % 8];
    if (t < 8) sum += __shfl_xor_sync(0xffu, sum, 1);
    __syncthreads();
    w0[i] = sum + bytes[47 - t];
    __syncwarp();
    atomicAdd(&w0[96], 1.0f);
}
BP_ENTRY(k_legal)
"#;

#[test]
fn what_is_legal_is_not_reported() {
    for order in ["forward", "random"] {
        let Some(device) = Device::open(order, "", "1") else {
            return;
        };
        let (values, bytes) = (device.upload(&[1.0; 97]), device.upload(&[0.0; 24]));
        let job = Job {
            grid: [2, 1, 1],
            block: [48, 1, 1],
            shared: 0,
        };
        let module = device.compile(LEGAL).unwrap();
        for _ in 0..2 {
            device
                .launch(module, "k_legal", job, &[values, values, bytes])
                .unwrap();
        }
        assert_eq!(device.download(values, 97)[96], 193.0);
        device.free(&[values, bytes]);
    }
}
