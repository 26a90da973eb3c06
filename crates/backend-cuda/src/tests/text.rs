//! Kernels as they are printed.

use backprop_core::{
    Axes, Body, DType, Inst, Output, Primitive, Program, Reduction, Register, Rows, Scalar, Shape,
    Sink, Source, Sweep, TensorType, View,
};
use expect_test::expect;

use crate::contraction::Options;

fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

fn axes(of: &[usize]) -> Axes {
    of.iter().copied().collect()
}

fn tensor(sizes: &[usize]) -> TensorType {
    TensorType::dense(DType::F32, shape(sizes))
}

/// The text of all kernels, with the entries' names left out.
fn printed(primitive: &Primitive) -> String {
    let lowered = crate::lower(primitive, Options::default()).unwrap();
    let texts = lowered.launches().map(|launch| {
        let text = launch.source.text.replace(&*launch.source.entry, "kernel");
        format!("{:?} x {}\n{text}", launch.grid, launch.block)
    });
    texts.collect()
}

/// `relu(x + b)` with `b` along the last axis; stored, or summed over the first.
fn body(space: &[usize], sink: Sink, result: &[usize]) -> Body {
    let mut program = Program::identity(DType::F32);
    let b = program.push(Inst::Input(1), DType::F32).unwrap();
    let sum = Inst::Apply(Scalar::Add, [Register(0), b, b]);
    let sum = program.push(sum, DType::F32).unwrap();
    let relu = Inst::Apply(Scalar::Relu, [sum; 3]);
    let relu = program.push(relu, DType::F32).unwrap();
    let bias = shape(&space[1..]);
    Body {
        inputs: vec![
            Source::dense(tensor(space)),
            Source {
                tensor: TensorType::dense(DType::F32, bias),
                view: View::dense(bias).broadcast(shape(space)),
            },
        ],
        program,
        outputs: vec![Output {
            register: relu,
            sink,
            tensor: tensor(result),
        }],
    }
}

#[test]
fn a_sweep_that_stores() {
    let sweep = Primitive::Sweep(Sweep {
        space: shape(&[512, 264]),
        body: body(&[512, 264], Sink::Store, &[512, 264]),
    });
    expect![[r#"
        [132, 1, 1] x 256
        extern "C" __global__ void __launch_bounds__(256) kernel(const float* r0, const float* __restrict__ r1, float* w0) {
        BP_BEGIN();
        const int number = ((int)blockIdx.x * 256 + threadIdx.x) * 4;
        if (number >= 135168) return;
        const int c0 = number / 264;
        const int c1 = (number) % 264;
        const bool aligned = bp_aligned(r0) && bp_aligned(r1) && bp_aligned(w0);
        bp_pack<float, 4> x0;
        bp_pack<float, 4> x1;
        x0 = bp_load<4>(r0 + (c0 * 264 + c1), aligned);
        x1 = bp_load<4>(r1 + (c1), aligned);
        bp_pack<float, 4> y0;
        #pragma unroll
        for (int i = 0; i < 4; ++i) { 
        const float v0 = x0.at[i];
        const float v1 = x1.at[i];
        const float v2 = (v0 + v1);
        const float v3 = (v2 <= 0 ? 0 : v2);
        y0.at[i] = v3;
         }
        bp_store<4>(w0 + (c0 * 264 + c1), y0, aligned);
        }
        BP_ENTRY(kernel)
    "#]].assert_eq(&printed(&sweep));
}

#[test]
fn a_sweep_that_reduces() {
    let sink = Sink::Reduce(Reduction::Sum, axes(&[0]));
    let sweep = Primitive::Sweep(Sweep {
        space: shape(&[100, 7]),
        body: body(&[100, 7], sink, &[7]),
    });
    expect![[r#"
        [1, 1, 1] x 256
        extern "C" __global__ void __launch_bounds__(256) kernel(const float* __restrict__ r0, const float* __restrict__ r1, float* w0) {
        BP_BEGIN();
        const int column = threadIdx.x % 8, lane = threadIdx.x / 8;
        const int asked = (int)blockIdx.x * 8 + column;
        const bool own = asked < 7;
        const int row = own ? asked : 7 - 1;
        const int c1 = row;
        const int begin = (int)blockIdx.y * 100;
        const int end = !own ? begin : begin + 100 < 100 ? begin + 100 : 100;
        bp_pack<float, 1> x1;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x1.at[i] = r1[c1]; }
        float t0 = 0.0f;
        for (int base = begin + lane * 1; base < end; base += 512) {
        bp_pack<float, 1> x0[16];
        #pragma unroll
        for (int u = 0; u < 16; ++u) {
        const int at = base + u * 32;
        if (at < end) {
        const int c0 = at;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x0[u].at[i] = r0[c0 * 7 + c1]; }
        }
        }
        #pragma unroll
        for (int u = 0; u < 16; ++u) {
        const int at = base + u * 32;
        if (at < end) {
        const int c0 = at;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { 
        const float v0 = x0[u].at[i];
        const float v1 = x1.at[i];
        const float v2 = (v0 + v1);
        const float v3 = (v2 <= 0 ? 0 : v2);
        t0 = (t0 + v3);
         }
        }
        }
        }
        #pragma unroll
        for (int mask = 16; mask >= 8; mask /= 2) {
        const float ot0 = bp_across(t0, mask);
        t0 = (t0 + ot0);
        }
        {
        __shared__ float st0[64];
        if (lane % 4 == 0) st0[(lane / 4) * 8 + column] = t0;
        __syncthreads();
        t0 = st0[column];
        for (int group = 1; group < 8; ++group) t0 = (t0 + st0[group * 8 + column]);
        }
        if (lane == 0 && own) {
        w0[row] = t0;
        }
        }
        BP_ENTRY(kernel)
    "#]].assert_eq(&printed(&sweep));
}

/// `x` less the largest of its row.
#[test]
fn rows() {
    let mut program = Program::identity(DType::F32);
    let most = Inst::Reduce(Reduction::Max, Register(0));
    let most = program.push(most, DType::F32).unwrap();
    let less = Inst::Apply(Scalar::Sub, [Register(0), most, most]);
    let less = program.push(less, DType::F32).unwrap();
    let rows = Primitive::Rows(Rows {
        space: shape(&[5, 40]),
        axes: axes(&[1]),
        body: Body {
            inputs: vec![Source::dense(tensor(&[5, 40]))],
            program,
            outputs: vec![Output {
                register: less,
                sink: Sink::Store,
                tensor: tensor(&[5, 40]),
            }],
        },
    });
    expect![[r#"
        [1, 1, 1] x 256
        extern "C" __global__ void __launch_bounds__(256) kernel(const float* r0, float* w0) {
        BP_BEGIN();
        const int lane = threadIdx.x % 32;
        const int row = (int)blockIdx.x * 8 + threadIdx.x / 32;
        if (row >= 5) return;
        const bool own = true;
        const int c0 = row;
        const bool aligned = bp_aligned(r0) && bp_aligned(w0);
        bp_pack<float, 4> x0[1];
        #pragma unroll
        for (int u = 0; u < 1; ++u) {
        const int at = (u * 32 + lane) * 4;
        if (own && at < 40) {
        const int c1 = at;
        x0[u] = bp_load<4>(r0 + (c0 * 40 + c1), aligned);
        }
        }
        float t1 = __int_as_float(0xff800000);
        #pragma unroll
        for (int u = 0; u < 1; ++u) {
        const int at = (u * 32 + lane) * 4;
        if (own && at < 40) {
        const int c1 = at;
        #pragma unroll
        for (int i = 0; i < 4; ++i) { 
        const float v0 = x0[u].at[i];
        t1 = (t1 > v0 || t1 != t1 ? t1 : v0);
         }
        }
        }
        #pragma unroll
        for (int mask = 16; mask >= 1; mask /= 2) {
        const float ot1 = bp_across(t1, mask);
        t1 = (t1 > ot1 || t1 != t1 ? t1 : ot1);
        }
        const float v1 = t1;
        #pragma unroll
        for (int u = 0; u < 1; ++u) {
        const int at = (u * 32 + lane) * 4;
        if (own && at < 40) {
        const int c1 = at;
        bp_pack<float, 4> y0;
        #pragma unroll
        for (int i = 0; i < 4; ++i) { 
        const float v0 = x0[u].at[i];
        const float v2 = (v0 - v1);
        y0.at[i] = v2;
         }
        bp_store<4>(w0 + (c0 * 40 + c1), y0, aligned);
        }
        }
        }
        BP_ENTRY(kernel)
    "#]]
    .assert_eq(&printed(&rows));
}
