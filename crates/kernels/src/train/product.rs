//! Matrix products over `rten-gemm`, with either side transposed, strided or packed beforehand.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

thread_local!(static EXECUTOR: GemmExecutor = GemmExecutor::new());

/// A matrix in a slice: row-major, or the transpose of one.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl<'a> Mat<'a> {
    /// The first `rows · columns` numbers of `values` as rows.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows of `columns` numbers that begin `stride` apart.
    ///
    /// # Panics
    /// When `values` ends before the last row does.
    #[must_use]
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(rows == 0 || values.len() >= (rows - 1) * stride + columns, "all rows lie in the slice");
        Self { values, rows, columns, strides: [stride, 1] }
    }

    /// The transpose, without moving anything.
    #[must_use]
    pub fn t(self) -> Self {
        let [row, column] = self.strides;
        Self { values: self.values, rows: self.columns, columns: self.rows, strides: [column, row] }
    }

    fn view(&self) -> NdTensorView<'a, f32, 2> {
        NdTensorView::from_slice_with_strides([self.rows, self.columns], self.values, self.strides)
            .expect("the constructors checked that all rows lie in the slice")
    }
}

/// A right-hand side laid out for this machine once, for many products.
pub struct Packed {
    matrix: PackedBMatrix<f32>,
    rows: usize,
    columns: usize,
}

impl Packed {
    /// Packs a matrix.
    #[must_use]
    pub fn new(matrix: Mat<'_>) -> Self {
        Self {
            matrix: EXECUTOR.with(|executor| executor.prepack_b(matrix.view())),
            rows: matrix.rows,
            columns: matrix.columns,
        }
    }
}

/// The right-hand side of a product.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// As it lies.
    Plain(Mat<'a>),
    /// Packed beforehand.
    Packed(&'a Packed),
}

/// What happens to what the output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// It is overwritten.
    #[default]
    Replace,
    /// The product is added to it.
    Add,
}

/// How a product is scaled and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct ProductOptions<'a> {
    /// Factor of the product.
    pub alpha: f32,
    /// Replace or add.
    pub output: Output,
    /// Added to each row.
    pub bias: Option<&'a [f32]>,
}

impl Default for ProductOptions<'_> {
    fn default() -> Self {
        Self { alpha: 1.0, output: Output::Replace, bias: None }
    }
}

/// `out (+)= alpha · a · b + bias`, row-major.
///
/// # Panics
/// When the shapes do not agree.
pub fn product(a: Mat<'_>, b: Right<'_>, options: ProductOptions<'_>, out: &mut [f32]) {
    let (k, n) = match b {
        Right::Plain(b) => (b.rows, b.columns),
        Right::Packed(b) => (b.rows, b.columns),
    };
    assert!(a.columns == k && out.len() == a.rows * n, "m × k times k × n makes m × n");
    assert!(options.bias.is_none_or(|bias| bias.len() == n), "one bias for each column");
    if out.is_empty() {
        return;
    }
    let beta = match options.output {
        Output::Replace => 0.0,
        Output::Add => 1.0,
    };
    if a.rows == 1
        && let Right::Plain(b) = b
    {
        // The executor cuts the product of one row by the number of threads, and its sums with it.
        return one_row(a, b, options, out);
    }
    let right = match b {
        Right::Plain(b) => GemmInputB::Unpacked(b.view()),
        Right::Packed(b) => GemmInputB::Packed(&b.matrix),
    };
    let bias = options.bias.map(BiasVector::Row);
    let gemm = GemmOptions { alpha: options.alpha, beta, bias, ..Default::default() };
    EXECUTOR
        .with(|executor| executor.gemm(out, GemmInputA::Unpacked(a.view()), right, gemm).map(|_| ()))
        .expect("the shapes were checked above");
}

fn one_row(a: Mat<'_>, b: Mat<'_>, options: ProductOptions<'_>, out: &mut [f32]) {
    for (j, out) in out.iter_mut().enumerate() {
        let mut sum = 0.0;
        for p in 0..a.columns {
            sum += a.values[p * a.strides[1]] * b.values[p * b.strides[0] + j * b.strides[1]];
        }
        let before = if options.output == Output::Add { *out } else { 0.0 };
        *out = before + options.alpha * sum + options.bias.map_or(0.0, |bias| bias[j]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    fn at(m: Mat<'_>, i: usize, j: usize) -> f64 {
        f64::from(m.values[i * m.strides[0] + j * m.strides[1]])
    }

    #[test]
    fn products_in_all_directions_match_the_naive_product() {
        for (m, k, n) in [(1, 7, 5), (3, 1, 1), (17, 40, 50), (130, 300, 33), (64, 513, 384)] {
            let (a, b, bias, start) = (noise(1, m * k), noise(2, k * n), noise(3, n), noise(4, m * n));
            let lefts = [Mat::new(&a, m, k), Mat::new(&a, k, m).t()];
            let rights = [Mat::new(&b, k, n), Mat::new(&b, n, k).t()];
            for (left, right) in lefts.into_iter().flat_map(|a| rights.map(|b| (a, b))) {
                let packed = Packed::new(right);
                for b in [Right::Plain(right), Right::Packed(&packed)] {
                    for (output, bias) in [(Output::Replace, Some(&bias[..])), (Output::Add, None)] {
                        let mut got = start.clone();
                        product(left, b, ProductOptions { alpha: 0.5, output, bias }, &mut got);
                        let want: Vec<f32> = (0..m * n)
                            .map(|ij| {
                                let (i, j) = (ij / n, ij % n);
                                let dot: f64 = (0..k).map(|p| at(left, i, p) * at(right, p, j)).sum();
                                let before = if output == Output::Add { f64::from(start[ij]) } else { 0.0 };
                                (before + 0.5 * dot + bias.map_or(0.0, |bias| f64::from(bias[j]))) as f32
                            })
                            .collect();
                        let worst = largest_difference(&format!("product {m}×{k}×{n}"), &got, &want);
                        assert!(worst < 2e-6 * k as f32 + 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn columns_of_a_wider_matrix_multiply_as_if_they_lay_alone() {
        let (wide, b) = (noise(1, 9 * 30), noise(2, 10 * 4));
        let narrow: Vec<f32> = wide.chunks(30).flat_map(|row| row[5..15].to_vec()).collect();
        let (mut got, mut want) = (vec![0.0; 36], vec![0.0; 36]);
        let right = Right::Plain(Mat::new(&b, 10, 4));
        product(Mat::strided(&wide[5..], 9, 10, 30), right, ProductOptions::default(), &mut got);
        product(Mat::new(&narrow, 9, 10), right, ProductOptions::default(), &mut want);
        assert!(largest_difference("strided product", &got, &want) < 1e-6);
    }
}
