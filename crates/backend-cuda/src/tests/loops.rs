//! Loops as they are printed when they become one launch.

use backprop_core::DType;
use backprop_graph::{Cell, Graph, Init, Recurrence, Recurrent, Session, Updates};
use expect_test::expect;

use crate::contraction::Options;
use crate::loops::{Fused, fuse};
use crate::lowered::Source;
use crate::paper::Paper;

/// The loops of a recurrent layer and of its gradients.
fn loops(cell: Cell, gates: usize, [time, rows, hidden]: [usize; 3]) -> Vec<Fused> {
    let g = Graph::new();
    let x = g.input("x", [time, rows, 8], DType::F32);
    let weight =
        |name, columns| g.parameter(name, [gates * hidden, columns], DType::F32, Init::Xavier);
    let (ih, hh) = (weight("ih", 8), weight("hh", hidden));
    let bias = || g.full([gates * hidden], 0.0, DType::F32);
    let layer = Recurrent {
        weight_ih: g.read(ih),
        weight_hh: g.read(hh),
        bias_ih: bias(),
        bias_hh: bias(),
    };
    let last = layer.run(cell, x, Recurrence::default()).hidden;
    let loss = last.square().mean([0, 1]);
    let grads = g.grad(loss, &[ih, hh]).unwrap();
    let fetched = [loss.key(), grads[0].key(), grads[1].key()];
    let session = Session::compile(&g, Paper, &fetched, Updates::none()).unwrap();
    fuse(session.step_plan(), Options::default())
}

/// The kernels of layers of a size that multiprocessors just hold.
pub(super) fn sources() -> Vec<Source> {
    let cells = [(Cell::Lstm, 4), (Cell::Gru, 3), (Cell::RnnTanh, 1)];
    let loops = cells.map(|(cell, gates)| loops(cell, gates, [16, 32, 128]));
    let sources = loops.into_iter().flatten().map(|fused| fused.launch.source);
    sources.collect()
}

#[test]
fn a_layer_that_does_not_fit_stays_apart() {
    assert_eq!(loops(Cell::Lstm, 4, [16, 32, 128]).len(), 2);
    assert_eq!(loops(Cell::Lstm, 4, [16, 32, 256]).len(), 0);
    assert_eq!(loops(Cell::Lstm, 4, [16, 133, 128]).len(), 0);
    assert_eq!(loops(Cell::Lstm, 4, [3, 32, 128]).len(), 0);
}

#[test]
fn a_recurrent_layer() {
    let loops = loops(Cell::RnnTanh, 1, [16, 2, 16]);
    let launch = &loops[0].launch;
    let text = launch.source.text.replace(&*launch.source.entry, "kernel");
    let sizes = (launch.grid, launch.block, launch.shared);
    expect![[r#"
        ([2, 1, 1], 256, 256)
        extern "C" __global__ void __launch_bounds__(256, 1) kernel(float* p0, const float* p1, const float* p2, const float* p3, float* p4, float* p5, float* p6) {
        BP_BEGIN();
        BP_DYN_SHARED(float, shared);
        const int row = blockIdx.x;
        float* const m0 = (float*)((unsigned char*)shared + 0);
        for (int i = threadIdx.x + 0; i < 16; i += 256) m0[i] = p4[0 + row * 16 + i];
        float* const m1 = (float*)((unsigned char*)shared + 64);
        for (int i = threadIdx.x + 0; i < 16; i += 256) m1[i] = p0[0 + row * 16 + i];
        float* const parts = shared + 32;
        float* const more0 = shared + 64;
        int it = 0;
        bp_pack<float, 1> x0_0[1];
        bp_pack<float, 1> x1_0[1];
        float kept0[8];
        {
        const float* const r1 = p1;
        const float* const r2 = p2 + (long long)it * 32;
        const float* const r3 = p3;
        const int part = threadIdx.x / 128, column = threadIdx.x % 128;
        #pragma unroll
        for (int s = 0; s < 1; ++s) {
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
        #pragma unroll
        for (int c = 0; c < 1; ++c) {
        const int q = (s * 8 + i) * 1 + c;
        const int k = i / 8 * 16 + (part * 1 + s) * 8 + i % 8, n = column + c * 128;
        const float w = k < 16 && n < 16 ? r1[((n) * (16) + (k))] : 0;
        if (q < 8) kept0[q < 8 ? q : 0] = w;
        else more0[(q - 8) * 256 + threadIdx.x] = w;
        }
        }
        }
        }
        {
        const float* const r1 = p1;
        const float* const r2 = p2 + (long long)it * 32;
        const float* const r3 = p3;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
        const int j = threadIdx.x + e * 256;
        if (j >= 16) break;
        const int number = row * 16 + j;
        const int c0 = number;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x0_0[e].at[i] = r2[c0]; }
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x1_0[e].at[i] = r3[c0]; }
        }
        }
        __syncthreads();
        #pragma unroll 1
        for (int round = 0; round < 16; ++round) {
        const int next = it + (1);
        const bool last = round + 1 == 16;
        {
        const bp_both<float> w0 = {m0 + (0) - row * 16, p4, last};
        {
        const int part = threadIdx.x / 128, column = threadIdx.x % 128;
        float total[1][1] = {};
        #pragma unroll
        for (int g = 0; g < 8; g += 4) {
        #pragma unroll
        for (int s = 0; s < 1; ++s) {
        const bp_pack<float, 4> x = *(const bp_pack<float, 4>*)(m1 + 0 + g / 8 * 16 + (part * 1 + s) * 8 + g % 8);
        #pragma unroll
        for (int u = 0; u < 4; ++u) {
        #pragma unroll
        for (int c = 0; c < 1; ++c) {
        const int q = (s * 8 + g + u) * 1 + c;
        const float w = q < 8 ? kept0[q < 8 ? q : 0] : more0[(q - 8) * 256 + threadIdx.x];
        total[s][c] = bp_fma(x.at[u], w, total[s][c]);
        }
        }
        }
        }
        #pragma unroll
        for (int s = 0; s < 1; ++s) {
        #pragma unroll
        for (int c = 0; c < 1; ++c) {
        const int n = column + c * 128;
        if (n < 16) parts[(part * 1 + s) * 16 + n] = total[s][c];
        }
        }
        }
        __syncthreads();
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
        const int j = threadIdx.x + e * 256;
        if (j >= 16) break;
        const int number = row * 16 + j;
        const int c0 = number;
        bp_pack<float, 1> g0;
        g0.at[0] = parts[j];
        #pragma unroll
        for (int slice = 1; slice < 2; ++slice) g0.at[0] = (g0.at[0] + parts[slice * 16 + j]);
        bp_pack<float, 1> y0;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { 
        const float v0 = g0.at[i];
        const float v1 = x0_0[e].at[i];
        const float v2 = x1_0[e].at[i];
        const float v3 = (v0 + v2);
        const float v4 = (v1 + v3);
        const float v5 = tanh(v4);
        y0.at[i] = v5;
         }
        #pragma unroll
        for (int i = 0; i < 1; ++i) { w0[c0] = y0.at[i]; }
        }
        }
        if (!last) {
        const int it = next;
        {
        const float* const r1 = p1;
        const float* const r2 = p2 + (long long)it * 32;
        const float* const r3 = p3;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
        const int j = threadIdx.x + e * 256;
        if (j >= 16) break;
        const int number = row * 16 + j;
        const int c0 = number;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x0_0[e].at[i] = r2[c0]; }
        }
        }
        }
        __syncthreads();
        {
        const float* const r0 = m0 + (0) - row * 16;
        float* const w0 = p5 + (long long)it * 32;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
        const int j = threadIdx.x + e * 256;
        if (j >= 16) break;
        const int number = row * 16 + j;
        const int c0 = number;
        bp_pack<float, 1> x0_1[1];
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x0_1[e].at[i] = r0[c0]; }
        bp_pack<float, 1> y0;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { 
        const float v0 = x0_1[e].at[i];
        y0.at[i] = v0;
         }
        #pragma unroll
        for (int i = 0; i < 1; ++i) { w0[c0] = y0.at[i]; }
        }
        }
        __syncthreads();
        {
        const float* const r0 = m1 + (0) - row * 16;
        float* const w0 = p6 + (long long)it * 32;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
        const int j = threadIdx.x + e * 256;
        if (j >= 16) break;
        const int number = row * 16 + j;
        const int c0 = number;
        bp_pack<float, 1> x0_2[1];
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x0_2[e].at[i] = r0[c0]; }
        bp_pack<float, 1> y0;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { 
        const float v0 = x0_2[e].at[i];
        y0.at[i] = v0;
         }
        #pragma unroll
        for (int i = 0; i < 1; ++i) { w0[c0] = y0.at[i]; }
        }
        }
        __syncthreads();
        {
        const float* const r0 = m0 + (0) - row * 16;
        const bp_both<float> w0 = {m1 + (0) - row * 16, p0, last};
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
        const int j = threadIdx.x + e * 256;
        if (j >= 16) break;
        const int number = row * 16 + j;
        const int c0 = number;
        bp_pack<float, 1> x0_3[1];
        #pragma unroll
        for (int i = 0; i < 1; ++i) { x0_3[e].at[i] = r0[c0]; }
        bp_pack<float, 1> y0;
        #pragma unroll
        for (int i = 0; i < 1; ++i) { 
        const float v0 = x0_3[e].at[i];
        y0.at[i] = v0;
         }
        #pragma unroll
        for (int i = 0; i < 1; ++i) { w0[c0] = y0.at[i]; }
        }
        }
        __syncthreads();
        it = next;
        }
        }
        BP_ENTRY(kernel)
    "#]].assert_eq(&format!("{sizes:?}\n{text}"));
}
