//! How cuBLASLt computes a product: its descriptors and its algorithms, chosen once. The library's
//! first operand is `B`, its second is `A`.

use std::ffi::c_void;

use backprop_core::{DType, Error};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::{ByColumns, Compute, Order, Product, Side, Workspace};
use crate::device::trouble;
use crate::lowered::Arg;

/// What the library says, in words.
pub(super) fn failed(doing: &str, error: CublasError) -> Error {
    trouble(format!("{doing}: cuBLASLt reports {:?}", error.0))
}

/// The addresses that algorithms are chosen for, where they allow it.
const ALIGNED: usize = 16;

/// Where the matrices of a product lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Addresses {
    left: u64,
    right: u64,
    result: u64,
    workspace: u64,
}

impl Addresses {
    pub(crate) fn new(product: &Product, of: &dyn Fn(Arg) -> u64) -> Addresses {
        let size = product.operands.size();
        let first = |side: &Side| of(side.arg) + (side.first * size) as u64;
        let workspace = of(Arg::Scratch(product.workspace.at));
        Addresses {
            left: first(&product.left),
            right: first(&product.right),
            result: of(product.result),
            workspace: workspace.next_multiple_of(Workspace::ALIGNMENT as u64),
        }
    }

    #[cfg(test)]
    pub(super) fn workspace(self) -> u64 {
        self.workspace
    }

    fn are_aligned(self) -> bool {
        let all = [self.left, self.right, self.result];
        all.iter()
            .all(|address| address.is_multiple_of(ALIGNED as u64))
    }
}

/// What multiplies, and in which type its factors are.
fn types(compute: Compute) -> (sys::cublasComputeType_t, DType) {
    use sys::cublasComputeType_t as Type;
    match compute {
        Compute::Strict | Compute::Half => (Type::CUBLAS_COMPUTE_32F, DType::F32),
        Compute::Tf32 => (Type::CUBLAS_COMPUTE_32F_FAST_TF32, DType::F32),
        Compute::Double => (Type::CUBLAS_COMPUTE_64F, DType::F64),
    }
}

/// The library's name of a type, of those that a product may have.
fn data_type(dtype: DType) -> sys::cudaDataType_t {
    match dtype {
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        DType::F64 => sys::cudaDataType_t::CUDA_R_64F,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    }
}

/// A value's address and size, as attributes are set.
fn attribute<T>(value: &T) -> (*const c_void, usize) {
    (std::ptr::from_ref(value).cast(), size_of::<T>())
}

/// What is computed.
#[derive(Debug)]
struct Operation(sys::cublasLtMatmulDesc_t);

impl Operation {
    fn new(product: &Product) -> Result<Operation, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let (compute, factors) = types(product.compute);
        let operation = Operation(result::create_matmul_desc(compute, data_type(factors))?);
        for (name, side) in [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &product.right),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &product.left),
        ] {
            // As CUBLAS_OP_N and CUBLAS_OP_T.
            let transposed = i32::from(side.order == Order::Columns);
            let (value, bytes) = attribute(&transposed);
            // SAFETY: the descriptor was created above; the value is read during the call.
            unsafe { result::set_matmul_desc_attribute(operation.0, name, value, bytes)? };
        }
        Ok(operation)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// How a matrix lies in memory.
#[derive(Debug)]
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(dtype: DType, matrix: ByColumns, batch: usize) -> Result<Layout, CublasError> {
        use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
        let (rows, columns) = (matrix.rows as u64, matrix.columns as u64);
        let leading = matrix.leading as i64;
        let layout = result::create_matrix_layout(data_type(dtype), rows, columns, leading)?;
        let layout = Layout(layout);
        let (batch, step) = (batch as i32, matrix.batch as i64);
        for (name, (value, bytes)) in [
            (
                Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                attribute(&batch),
            ),
            (
                Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                attribute(&step),
            ),
        ] {
            // SAFETY: the descriptor was created above; the value is read during the call.
            unsafe { result::set_matrix_layout_attribute(layout.0, name, value, bytes)? };
        }
        Ok(layout)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What algorithms may do.
#[derive(Debug)]
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    /// At addresses that are multiples of these numbers: for operands, and for sums.
    fn new(workspace: usize, [operands, sums]: [usize; 2]) -> Result<Preference, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(result::create_matmul_pref()?);
        let workspace = workspace as u64;
        let [operands, sums] = [operands as u32, sums as u32];
        for (name, (value, bytes)) in [
            (
                Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                attribute(&workspace),
            ),
            (
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                attribute(&operands),
            ),
            (
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                attribute(&operands),
            ),
            (
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                attribute(&sums),
            ),
            (
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                attribute(&sums),
            ),
        ] {
            // SAFETY: the descriptor was created above; the value is read during the call.
            unsafe { result::set_matmul_pref_attribute(preference.0, name, value, bytes)? };
        }
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// A product, prepared.
#[derive(Debug)]
pub(crate) struct Plan {
    operation: Operation,
    /// `B`, `A` and `C`, in the library's order.
    layouts: [Layout; 3],
    /// Bytes of workspace.
    workspace: usize,
    compute: Compute,
    /// For addresses at multiples of [`ALIGNED`], and for all others.
    aligned: sys::cublasLtMatmulAlgo_t,
    unaligned: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: descriptors are memory of the process that is read only once it is written.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

/// What is computed, and how `B`, `A` and `C` lie.
fn described(product: &Product) -> Result<(Operation, [Layout; 3]), CublasError> {
    let [right, left, sums] = product.by_columns();
    let layouts = [
        Layout::new(product.operands, right, product.batch)?,
        Layout::new(product.operands, left, product.batch)?,
        Layout::new(product.sums, sums, product.batch)?,
    ];
    Ok((Operation::new(product)?, layouts))
}

/// For addresses at multiples of [`ALIGNED`], and for all others.
fn preferences(product: &Product) -> Result<[Preference; 2], CublasError> {
    let workspace = product.workspace.bytes;
    let least = [product.operands.size(), product.sums.size()];
    Ok([
        Preference::new(workspace, [ALIGNED; 2])?,
        Preference::new(workspace, least)?,
    ])
}

/// Makes all descriptors of a product.
#[cfg(test)]
pub(super) fn describe(product: &Product) -> Result<(), CublasError> {
    described(product)
        .and_then(|_| preferences(product))
        .map(drop)
}

impl Plan {
    /// `None` if the library has no algorithm for it.
    ///
    /// # Safety
    /// The handle is one of the library.
    pub(super) unsafe fn new(
        handle: sys::cublasLtHandle_t,
        product: &Product,
    ) -> Result<Option<Plan>, CublasError> {
        let (operation, layouts) = described(product)?;
        let [right, left, sums] = &layouts;
        let mut algorithms = [None; 2];
        for (found, preference) in algorithms.iter_mut().zip(preferences(product)?) {
            // SAFETY: the caller's promise; all descriptors are alive.
            let chosen = unsafe {
                result::get_matmul_algo_heuristic(
                    handle,
                    operation.0,
                    right.0,
                    left.0,
                    sums.0,
                    sums.0,
                    preference.0,
                )
            };
            *found = match chosen {
                Ok(chosen) => Some(chosen.algo),
                Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => None,
                Err(error) => return Err(error),
            };
        }
        let [Some(aligned), Some(unaligned)] = algorithms else {
            return Ok(None);
        };
        Ok(Some(Plan {
            operation,
            layouts,
            workspace: product.workspace.bytes,
            compute: product.compute,
            aligned,
            unaligned,
        }))
    }

    /// Computes the product on a stream.
    ///
    /// # Safety
    /// The handle is the one that the plan was made with, the addresses are those of memory of the
    /// sizes that it was made for, and the stream is one of the handle's context.
    pub(super) unsafe fn run(
        &self,
        handle: sys::cublasLtHandle_t,
        addresses: Addresses,
        stream: sys::cudaStream_t,
    ) -> Result<(), CublasError> {
        let single = [1.0_f32, 0.0];
        let double = [1.0_f64, 0.0];
        let (one, zero): (*const c_void, *const c_void) = match types(self.compute).1 {
            DType::F64 => ((&raw const double[0]).cast(), (&raw const double[1]).cast()),
            _ => ((&raw const single[0]).cast(), (&raw const single[1]).cast()),
        };
        let algorithm = match addresses.are_aligned() {
            true => &self.aligned,
            false => &self.unaligned,
        };
        let [right, left, sums] = &self.layouts;
        let result = addresses.result as *mut c_void;
        // SAFETY: the caller's promise; factors are read during the call, and descriptors live as
        // long as the plan.
        unsafe {
            result::matmul(
                handle,
                self.operation.0,
                one,
                zero,
                addresses.right as *const c_void,
                right.0,
                addresses.left as *const c_void,
                left.0,
                result,
                sums.0,
                result,
                sums.0,
                std::ptr::from_ref(algorithm),
                addresses.workspace as *mut c_void,
                self.workspace,
                stream,
            )
        }
    }
}
