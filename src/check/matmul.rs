//! Cases of `matmul`, and of `matvec`, which takes what it takes.

use half::bf16;

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::WeightType;
use crate::kernels::matmul::{Activation, Form, MatMul, Output, Product};
use crate::reference;
use crate::schedule::{Dispatch, Slot};

/// M, N, K: around every edge of every tile, and a model's.
const SHAPES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (1, 5, 4),
    (2, 33, 7),
    (40, 1, 130),
    (7, 31, 13),
    (8, 32, 16),
    (9, 65, 17),
    (33, 7, 36),
    (64, 64, 512),
    (65, 66, 20),
    (70, 130, 3),
    (16, 384, 384),
    (17, 257, 28),
    (130, 129, 68),
];

/// M, N: the same edges for quantised weights, whose K is whole blocks.
const QUANTISED: [(usize, usize); 8] = [(1, 5), (2, 33), (3, 34), (5, 31), (9, 65), (16, 7), (33, 9), (65, 66)];

/// M, N of products with gates: an odd number of outputs, a tile's and more. Never a single one: a gate that is nearly shut has
/// no digits relative to itself.
const GATED: [(usize, usize); 4] = [(5, 34), (33, 130), (3, 38), (70, 64)];

/// Products of real models: MiniLM's FFN, GPT-2's QKV, SmolLM2's W_O, TinyLlama's FFN, Llama 3's and Qwen 2.5's.
const REAL: [Typed; 8] = [
    (WeightType::F32, (128, 1536, 384)),
    (WeightType::F16, (67, 2304, 768)),
    (WeightType::Bf16, (50, 576, 576)),
    (WeightType::Q8_0, (9, 1024, 5632)),
    (WeightType::Q4_0, (17, 2048, 2048)),
    (WeightType::Q4K, (9, 1024, 4096)),
    (WeightType::Q5K, (9, 896, 4864)),
    (WeightType::Q6K, (20, 1536, 2048)),
];

/// Those that take long: a square one, GPT-2's head, and more tiles than workgroups in one dimension.
const LARGE: [Typed; 3] =
    [(WeightType::F32, (1024, 1024, 1024)), (WeightType::F16, (5, 50257, 768)), (WeightType::F32, (300_000, 65, 4))];

pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<Plan> = Form::ALL.into_iter().flat_map(form_plans).collect();
    // the plainest kernel, which large outputs are compared with, on its own
    for weight_type in WeightType::ALL {
        let depths: &[usize] = if weight_type.quantised() { &[256, 512] } else { &[4, 7, 13, 384] };
        for (&depth, (m, n)) in depths.iter().zip(QUANTISED.into_iter().rev()) {
            plans.push(Maker::plain(weight_type).plan("matmul", (m, n, depth), &plainest));
        }
    }
    plans
}

/// A product by the plainest kernel.
fn plainest(product: &Product) -> Dispatch {
    MatMul { form: Form::Register, product: *product }.plainest()
}

/// Cases of one form; without those that another one takes where it is chosen.
fn form_plans(form: Form) -> Vec<Plan> {
    let dispatch = move |product: &Product| MatMul { form, product: *product }.dispatch();
    // the epilogue and the weight's type are parts that know nothing of each other, and drivers take long to compile some forms
    let crossed: &[_] = match form {
        Form::Register | Form::Subgroup | Form::Wide | Form::Workgroup => &[WeightType::F32, WeightType::F16],
        Form::Tall | Form::Large | Form::Skinny | Form::Cooperative8 | Form::Cooperative16 => &[WeightType::F16],
    };
    let mut plans = plans_of("matmul", &SHAPES, &REAL, &LARGE, crossed, &dispatch);
    plans.retain(|plan| plan.label().starts_with(&format!("matmul[{},", form.name())));
    if form.cooperates() {
        // rows whose f16 would overflow, or sink; and weights that would, of the float type that has such
        for (weight_type, rows, weights) in [
            (WeightType::F16, 1e9, 1.0),
            (WeightType::F16, 1e-9, 1.0),
            (WeightType::Bf16, 1e9, 2f32.powi(30)),
            (WeightType::Bf16, 1.0, 2f32.powi(-30)),
        ] {
            let maker = Maker { magnitudes: (rows, weights), ..Maker::plain(weight_type) };
            plans.push(maker.plan("matmul", (70, 34, 68), &dispatch));
        }
    }
    plans
}

/// M, N and K of products with weights of that type.
pub(super) type Typed = (WeightType, (usize, usize, usize));

/// Cases of every variant of a product, `dispatch`ed by its kernel. Weights of other types than those `crossed` have every
/// epilogue in full runs only: otherwise none, and all of it but an activation.
pub(super) fn plans_of(
    kernel: &'static str,
    shapes: &[(usize, usize, usize)],
    real: &[Typed],
    large: &[Typed],
    crossed: &[WeightType],
    dispatch: &dyn Fn(&Product) -> Dispatch,
) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut push = |maker: Maker, shape| {
        let plan = maker.plan(kernel, shape, dispatch);
        let full =
            !crossed.contains(&maker.weight_type) && (maker.activation != Activation::None || maker.bias != maker.add);
        plans.push(if full { plan.only_full() } else { plan });
    };
    let (quantised, floats): (Vec<_>, Vec<_>) = WeightType::ALL.into_iter().partition(|w| w.quantised());
    for weight_type in floats {
        for bias in [false, true] {
            for (i, &shape) in shapes.iter().enumerate() {
                let activation = Activation::ALL[i % Activation::ALL.len()];
                let maker = Maker { bias, activation, ..Maker::plain(weight_type) };
                push(maker, shape);
                let chunk = if i % 2 == 0 { 0 } else { 64 };
                let maker = Maker { bias, add: true, chunk, ..Maker::plain(weight_type) };
                push(maker, shape);
            }
            for activation in Activation::ALL {
                for shape in [(5, 34, 12), (10, 35, 14)] {
                    let maker = Maker { bias, activation, chunk: 20, ..Maker::plain(weight_type) };
                    push(maker, shape);
                }
            }
        }
    }
    for weight_type in quantised {
        let depths = if weight_type.block().elements == 32 { [32, 96, 256, 512] } else { [256, 512, 768, 1024] };
        for bias in [false, true] {
            let activations = weight_type.activations(bias);
            for (i, (m, n)) in QUANTISED.into_iter().enumerate() {
                let shape = (m, n, depths[(i + i / 4) % 4]);
                let activation = activations[i % activations.len()];
                // chunks that begin at odd rows, so that blocks lie at every place in a word
                let chunk = if i % 2 == 0 { 0 } else { 21 };
                let maker = Maker { bias, activation, chunk, ..Maker::plain(weight_type) };
                push(maker, shape);
                let maker = Maker { bias, add: true, chunk: 21 - chunk, ..Maker::plain(weight_type) };
                push(maker, shape);
            }
        }
    }
    for weight_type in WeightType::ALL {
        let depths: &[usize] = if weight_type.quantised() { &[256, 512] } else { &[36, 7] };
        for (i, activation) in Activation::GATES.into_iter().enumerate() {
            for (j, &depth) in depths.iter().enumerate() {
                let (m, n) = GATED[(i + 2 * j) % GATED.len()];
                let maker = Maker { activation, gate: true, ..Maker::plain(weight_type) };
                let plan = maker.plan(kernel, (m, n, depth), dispatch);
                // where gates are is a matter of forms and epilogues: by default one of each type
                plans.push(if i + j == 0 || crossed.contains(&weight_type) { plan } else { plan.only_full() });
            }
        }
    }
    let whole =
        |&(weight_type, shape): &Typed| Maker::plain(weight_type).large(kernel, shape, dispatch).sized(Size::Large);
    plans.extend(real.iter().map(whole));
    plans.extend(large.iter().map(|product| whole(product).only_full()));
    plans
}

/// A large product by a kernel's dispatches, of a weight in chunks of so many rows.
pub(crate) fn timed(
    kernel: &'static str,
    shape: (usize, usize, usize),
    weight_type: WeightType,
    chunk: usize,
    dispatch: &dyn Fn(&Product) -> Dispatch,
) -> Plan {
    Maker { chunk, ..Maker::plain(weight_type) }.large(kernel, shape, dispatch)
}

/// What a product is, apart from its kernel and its shape.
#[derive(Clone, Copy)]
struct Maker {
    weight_type: WeightType,
    bias: bool,
    activation: Activation,
    add: bool,
    gate: bool,
    /// Rows of the weight's chunks; 0 for one chunk.
    chunk: usize,
    /// Of the rows, and of the weight, which is then of bf16: a power of two.
    magnitudes: (f32, f32),
}

/// What the plainest kernel writes.
const PLAIN: Slot = Slot::Scratch(2);

impl Maker {
    /// A product and nothing else.
    fn plain(weight_type: WeightType) -> Self {
        let (activation, magnitudes) = (Activation::None, (1.0, 1.0));
        Maker { weight_type, bias: false, activation, add: false, gate: false, chunk: 0, magnitudes }
    }

    fn plan(self, kernel: &'static str, shape: (usize, usize, usize), dispatch: &dyn Fn(&Product) -> Dispatch) -> Plan {
        let (m, n, k) = shape;
        let dispatches = self.products(n, k).map(|product| dispatch(&product)).collect();
        let mut name = format!("[{m},{k}]x[{k},{n}] in chunks of {}", self.step(n));
        if self.magnitudes != (1.0, 1.0) {
            name += &format!(", magnitudes {:e} and {:e}", self.magnitudes.0, self.magnitudes.1);
        }
        let token_rows = vec![(Slot::Scratch(0), k), (self.output().1, self.width(n))];
        Plan::new(kernel, name, dispatches, token_rows, move |random| self.inputs(random, shape))
    }

    /// A large one: the reference for some elements, and for all the plainest kernel.
    fn large(
        self,
        kernel: &'static str,
        shape: (usize, usize, usize),
        dispatch: &dyn Fn(&Product) -> Dispatch,
    ) -> Plan {
        let (m, n, k) = shape;
        let mut dispatches: Vec<_> = self.products(n, k).map(|product| dispatch(&product)).collect();
        let plain = |product| plainest(&Product { output: Output::Store(PLAIN), ..product });
        dispatches.extend(self.products(n, k).map(plain));
        let token_rows = vec![(Slot::Scratch(0), k), (self.output().1, n)];
        let name = format!("[{m},{k}]x[{k},{n}], {} elements and the plainest kernel", SAMPLED);
        Plan::new(kernel, name, dispatches, token_rows, move |random| self.large_inputs(random, shape))
    }

    fn step(&self, n: usize) -> usize {
        if self.chunk == 0 { n } else { self.chunk }
    }

    fn output(&self) -> (Output, Slot) {
        let slot = Slot::Scratch(1);
        match (self.add, self.gate) {
            (true, _) => (Output::AddToStream, Slot::Stream),
            (false, true) => (Output::Gate(slot), slot),
            (false, false) => (Output::Store(slot), slot),
        }
    }

    /// Columns of the output.
    fn width(&self, n: usize) -> usize {
        if self.gate { n / 2 } else { n }
    }

    /// One product for each chunk of the weight.
    fn products(self, n: usize, k: usize) -> impl Iterator<Item = Product> {
        let step = self.step(n);
        (0..n).step_by(step).enumerate().map(move |(i, out_first)| Product {
            weight_type: self.weight_type,
            input: Slot::Scratch(0),
            rows: MatMul::TOKENS,
            weight: Slot::Weight(2 * i),
            columns: step.min(n - out_first),
            depth: k,
            bias: self.bias.then_some(Slot::Weight(2 * i + 1)),
            activation: self.activation,
            output: self.output().0,
            out_columns: self.width(n),
            out_first,
        })
    }

    fn inputs(self, random: &mut Random, (m, n, k): (usize, usize, usize)) -> Inputs {
        // away from 0, so that no sum of few outputs cancels: an error relative to nothing says nothing
        let before = random.values(m * n, 4.0, 1.0);
        let slot = self.output().1;
        let mut drawn = self.draw(random, (m, n, k));
        while m * n <= FEW && drawn.cancels(n, k) {
            drawn = self.draw(random, (m, n, k));
        }
        let Drawn { rows, weights, biases, mut contents } = drawn;
        contents.insert(slot, if self.add { bytes(&before) } else { POISON.to_le_bytes().repeat(m * self.width(n)) });
        let mut expected = self.expected(&rows, &weights, &biases, n, k);
        if self.add {
            expected = reference::residual_add(&widen(&before), &expected);
        }
        Inputs::new(tokens(m), contents, vec![(slot, expected)])
    }

    fn expected(&self, rows: &[f64], weights: &[f64], biases: &[f64], n: usize, k: usize) -> Vec<f64> {
        if self.gate {
            let sums = reference::matmul(rows, weights, biases, n, k, Activation::None);
            return reference::gate(&sums, n / 2, self.activation);
        }
        reference::matmul(rows, weights, biases, n, k, self.activation)
    }

    fn draw(&self, random: &mut Random, (m, n, k): (usize, usize, usize)) -> Drawn {
        let rows = random.values(m * k, 0.0, self.magnitudes.0);
        let mut contents = Contents::from([(Slot::Scratch(0), bytes(&rows))]);
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for product in self.products(n, k) {
            let (mut stored, mut values) = random.weight(product.columns, k, self.weight_type);
            if self.magnitudes.1 != 1.0 {
                scale_bf16(&mut stored, self.magnitudes.1);
                values.iter_mut().for_each(|value| *value *= f64::from(self.magnitudes.1));
            }
            weights.extend(values);
            contents.insert(product.weight, stored);
            if let Some(slot) = product.bias {
                let bias = random.values(product.columns, 3.0, 1.0);
                contents.insert(slot, bytes(&bias));
                biases.extend(widen(&bias));
            }
        }
        Drawn { rows: widen(&rows), weights, biases, contents }
    }

    /// Without bias and activation, which the plainest kernel does not have.
    fn large_inputs(self, random: &mut Random, (m, n, k): (usize, usize, usize)) -> Inputs {
        let rows = random.values(m * k, 0.0, 1.0);
        let (stored, weight) = random.weight(n, k, self.weight_type);
        let poison = POISON.to_le_bytes().repeat(m * n);
        let out = self.output().1;
        let mut contents = Contents::from([(Slot::Scratch(0), bytes(&rows)), (out, poison.clone()), (PLAIN, poison)]);
        let row_bytes = self.weight_type.row_bytes(self.weight_type.stride(k));
        for product in self.products(n, k) {
            let mut chunk = stored[product.out_first * row_bytes..][..product.columns * row_bytes].to_vec();
            chunk.resize(chunk.len().next_multiple_of(16), 0xa5);
            contents.insert(product.weight, chunk);
        }
        // what lies anywhere, the first and last row and column, and the corners
        let mut places: Vec<usize> = (0..SAMPLED).map(|_| random.below(m * n)).collect();
        places.extend((0..n).chain((m - 1) * n..m * n).step_by(5));
        places.extend((0..m).flat_map(|row| [row * n, row * n + n - 1]));
        let wide = widen(&rows);
        let element = |place: usize| {
            let (row, column) = (place / n, place % n);
            let (row, weight) = (&wide[row * k..(row + 1) * k], &weight[column * k..(column + 1) * k]);
            (place, reference::matmul(row, weight, &[], 1, k, Activation::None)[0])
        };
        let elements = places.into_iter().map(element).collect();
        Inputs::new(tokens(m), contents, Vec::new()).sampled(out, elements).same(out, PLAIN)
    }
}

/// Outputs whose sums may all cancel by chance.
const FEW: usize = 16;

/// What a product reads.
struct Drawn {
    rows: Vec<f64>,
    weights: Vec<f64>,
    biases: Vec<f64>,
    contents: Contents,
}

impl Drawn {
    /// Whether the sums are less than half of what sums of such terms with independent signs are.
    fn cancels(&self, n: usize, k: usize) -> bool {
        let product = |a: &[f64], b: &[f64]| reference::matmul(a, b, &[], n, k, Activation::None);
        let squares = |values: &[f64]| values.iter().map(|value| value * value).collect::<Vec<_>>();
        let terms: f64 = product(&squares(&self.rows), &squares(&self.weights)).iter().sum();
        squares(&product(&self.rows, &self.weights)).iter().sum::<f64>() < terms / 4.0
    }
}

/// Multiplies bf16s by a power of two, which is exact.
fn scale_bf16(stored: &mut [u8], factor: f32) {
    for bytes in stored.chunks_exact_mut(2) {
        let value = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32() * factor;
        bytes.copy_from_slice(&bf16::from_f32(value).to_le_bytes());
    }
}

/// Elements of a large output that the reference computes, beside its edges.
const SAMPLED: usize = 4096;
