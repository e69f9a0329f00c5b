//! Host half of `shaders/attention.wgsl`: fused multi-head attention over a ragged batch.

use super::{
    COOPERATION, HANDED, Kernel, Load, Needs, ParamType::F32, ParamType::U32, Variant, WeightType, read, write,
};
use crate::gpu::{AdapterClass, Capabilities};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry: with `attention_split` the one kernel of a block that moves information between tokens.
pub const KERNEL: Kernel = Kernel {
    name: "attention",
    token_local: false,
    variants,
    params: &[
        ("heads", U32),
        ("group", U32),
        ("head_size", U32),
        ("quads", U32),
        ("q_stride", U32),
        ("kv_stride", U32),
        ("first_q", U32),
        ("first_k", U32),
        ("first_v", U32),
        ("tiles", U32),
        ("before", U32),
        ("after", U32),
        ("reach", U32),
        ("scale", F32),
        ("cap", F32),
    ],
};

/// Tokens in a page of the cache, a multiple of the 8 keys that are taken together.
pub const PAGE: u32 = 64;

/// Keys that a workgroup of a decode step takes: how a sequence's keys are split depends on nothing else.
pub const SPLIT: u32 = 256;

/// Largest head that the kernel takes.
pub const MAX_HEAD_SIZE: usize = 256;

/// A table of biases by relative position, f32 `[heads, 2·reach - 1]`, at `key - query + reach - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBias {
    /// The table.
    pub table: Slot,
    /// It covers distances below this.
    pub reach: usize,
}

/// Where queries, keys and values lie, and how they are scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Queries, f32 `[tokens, q_stride]`.
    pub q: Slot,
    /// Elements in a row of it.
    pub q_stride: usize,
    /// Column at which the queries' first head begins.
    pub first_q: usize,
    /// Keys and values, f32 `[rows, kv_stride]`; in a [`Slot::Cache`] a sequence's rows are found by its page table.
    pub kv: Slot,
    /// Elements in a row of it.
    pub kv_stride: usize,
    /// Column at which the keys' first head begins.
    pub first_k: usize,
    /// The same of the values.
    pub first_v: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, which as many heads of queries share each.
    pub kv_heads: usize,
    /// Elements in a head.
    pub head_size: usize,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Then bent to cap · tanh(score / cap).
    pub cap: Option<f32>,
    /// What a query sees.
    pub mask: Mask,
}

/// How many tokens a query sees before and behind itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Before.
    pub before: u32,
    /// Behind; 0 is causal.
    pub after: u32,
}

impl Mask {
    /// More tokens than any sequence has, so that sums with positions stay below 2^32.
    const ALL: u32 = 1 << 30;
    /// Every token sees every other.
    pub const NONE: Mask = Mask { before: Self::ALL, after: Self::ALL };
    /// Every token sees itself and all before it.
    pub const CAUSAL: Mask = Mask { before: Self::ALL, after: 0 };

    /// Causal, and no further back than `window` tokens, the query among them.
    pub const fn window(window: u32) -> Self {
        Mask { before: window - 1, after: 0 }
    }
}

impl Heads {
    /// Whether keys are found by page tables.
    pub(super) fn paged(&self) -> bool {
        matches!(self.kv, Slot::Cache(_))
    }

    /// How heads are read.
    pub(super) fn load(&self) -> Load {
        Load::choose(&[self.q_stride, self.kv_stride, self.first_q, self.first_k, self.first_v, self.head_size])
    }

    pub(super) fn group(&self) -> u32 {
        (self.heads / self.kv_heads) as u32
    }
}

/// Who computes what of a tile of queries, and how keys and values get there. All forms but those of cooperative matrices
/// sum in the same order and agree bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An invocation is a query, and all load the same keys: what runs anywhere.
    Uniform,
    /// Each of 8 neighbours loads another of 8 keys and hands it to the rest of its subgroup: for drivers that run on the
    /// CPU, where a load of the same by all is a load by each.
    Subgroup,
    /// Keys and values are staged in workgroup memory, and an invocation has some queries beside some keys, then beside some
    /// columns of the values: for GPUs.
    Tile,
    /// A tile's scores and sums are multiplied by cooperative matrices of 8 × 8: for GPUs that have them. Queries, keys, weights
    /// and values are rounded to f16, so that models in f32 take [`Form::Tile`], and so do heads of more than 128, whose tiles
    /// are smaller, and those that are read as scalars.
    Cooperative8,
    /// The same by matrices of 16 × 16.
    Cooperative16,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 5] = [Form::Uniform, Form::Subgroup, Form::Tile, Form::Cooperative8, Form::Cooperative16];

    /// Those that run on an adapter.
    pub fn on(capabilities: &Capabilities) -> impl Iterator<Item = Form> {
        Self::ALL.into_iter().filter(|form| capabilities.offers(form.needs()))
    }

    /// The default of an adapter.
    pub fn choose(capabilities: &Capabilities) -> Self {
        match capabilities.class {
            AdapterClass::Cpu if capabilities.offers(HANDED) => Form::Subgroup,
            AdapterClass::Cpu => Form::Uniform,
            AdapterClass::Integrated | AdapterClass::Discrete => [Form::Cooperative16, Form::Cooperative8]
                .into_iter()
                .find(|form| capabilities.offers(form.needs()))
                .unwrap_or(Form::Tile),
        }
    }

    /// Whether it multiplies cooperative matrices, in an order of its own.
    pub fn cooperates(self) -> bool {
        self.needs().matrix > 0
    }

    /// The form that a model takes where this one is chosen, by how the weight of its queries, keys and values is stored.
    pub fn of(self, weight: WeightType) -> Self {
        if weight == WeightType::F32 { self.exact() } else { self }
    }

    /// The form that rounds nothing to f16.
    fn exact(self) -> Self {
        if self.cooperates() { Form::Tile } else { self }
    }

    /// The form that such heads take.
    fn fitting(self, head_size: usize, load: Load) -> Self {
        if head_size <= 128 && load == Load::Vec4 { self } else { self.exact() }
    }

    /// What the device must have.
    pub(crate) fn needs(self) -> Needs {
        match self {
            Form::Uniform | Form::Tile => Needs::NOTHING,
            Form::Subgroup => HANDED,
            Form::Cooperative8 => Needs { features: COOPERATION, subgroup: 0, matrix: 8 },
            Form::Cooperative16 => Needs { features: COOPERATION, subgroup: 0, matrix: 16 },
        }
    }

    /// The tag of its variants.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Uniform => "",
            Form::Subgroup => "subgroup",
            Form::Tile => "tile",
            Form::Cooperative8 => "cooperative8",
            Form::Cooperative16 => "cooperative16",
        }
    }
}

/// Attention of one block.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// How keys reach queries.
    pub form: Form,
    /// Queries, keys and values.
    pub heads: Heads,
    /// Added to the scores.
    pub bias: Option<RelativeBias>,
    /// f32 `[tokens, heads, head_size]`.
    pub z: Slot,
}

/// Queries in a tile for a head size: as many as leave the sums within 16 KiB of workgroup memory.
pub fn tile(head_size: usize) -> u32 {
    if head_size <= 128 { 32 } else { 16 }
}

/// Room for a head in workgroup memory, in groups of 4: few sizes, so that there are few variants.
pub(super) fn quads(head_size: usize) -> u32 {
    match head_size {
        0..=32 => 8,
        33..=64 => 16,
        65..=128 => 32,
        _ => 64,
    }
}

/// Whether a query's sums may be in registers, for drivers that run on the CPU: loops over the head can be unrolled.
fn in_registers(form: Form, head_size: usize, load: Load) -> bool {
    form == Form::Subgroup && load == Load::Vec4 && matches!(head_size, 32 | 64)
}

fn variant(form: Form, head_size: usize, registers: bool, load: Load, paged: bool, bias: bool, cap: bool) -> Variant {
    let room = quads(head_size);
    let size = format!("{}", room * 4);
    let (own_parts, own_constants): (&[_], &[_]) = match form {
        Form::Uniform | Form::Subgroup => {
            let share = if form == Form::Subgroup { "share_subgroup" } else { "share_none" };
            let state = if registers { "state_registers" } else { "state_workgroup" };
            let sums = if registers { ("QUADS", room) } else { ("ROOM", room * tile(head_size)) };
            (&["attention_query", share, state], &[("LANES", tile(head_size)), sums])
        }
        Form::Tile => {
            // 64 invocations of 4 queries each
            let across = 256 / tile(head_size);
            (&["attention_tile"], &[("ACROSS", across), ("COLUMNS", room / across)])
        }
        Form::Cooperative8 => (&["powers", "attention_cooperative8", "attention_cooperative"], &[("SLICES", room / 8)]),
        Form::Cooperative16 => {
            (&["powers", "attention_cooperative16", "attention_cooperative"], &[("SLICES", room / 8)])
        }
    };
    let mut parts = vec!["tiles", "tanh", load.heads_part(), if paged { "keys_paged" } else { "keys_rows" }];
    parts.extend_from_slice(own_parts);
    let mut constants = vec![("HAS_BIAS", bias.into()), ("HAS_CAP", cap.into())];
    constants.extend_from_slice(own_constants);
    Variant {
        needs: form.needs(),
        parts,
        constants,
        bindings: vec![
            read("tiles"),
            read("q"),
            read("k"),
            read("v"),
            write("z"),
            read(if paged { "pages" } else { "bias" }),
        ],
        ..Variant::new(
            "attention",
            &[
                &size,
                form.name(),
                if registers { "registers" } else { "" },
                load.tag(),
                if paged { "paged" } else { "" },
                if bias { "bias" } else { "" },
                if cap { "cap" } else { "" },
            ],
        )
    }
}

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for form in Form::ALL {
        for head_size in [32, 64, 128, 256] {
            for load in Load::ALL {
                for registers in [false, true] {
                    let exists = !registers || in_registers(form, head_size, load);
                    if !exists || form.fitting(head_size, load) != form {
                        continue;
                    }
                    for cap in [false, true] {
                        // decoders have no biases by relative position
                        let kinds = [(false, false), (false, true), (true, false)];
                        let kind = |(paged, bias)| variant(form, head_size, registers, load, paged, bias, cap);
                        all.extend(kinds.map(kind));
                    }
                }
            }
        }
    }
    all
}

impl Attention {
    /// The dispatch.
    ///
    /// # Panics
    /// If the heads are larger than [`MAX_HEAD_SIZE`]; a model's spec is checked before.
    pub fn dispatch(&self) -> Dispatch {
        let h = &self.heads;
        assert!(h.head_size <= MAX_HEAD_SIZE, "heads of {} elements", h.head_size);
        let load = h.load();
        let form = self.form.fitting(h.head_size, load);
        let registers = in_registers(form, h.head_size, load);
        let (bias, cap) = (self.bias.is_some(), h.cap.is_some());
        Dispatch {
            variant: variant(form, h.head_size, registers, load, h.paged(), bias, cap),
            params: vec![
                Word::U32(h.heads as u32),
                Word::U32(h.group()),
                Word::U32(h.head_size as u32),
                Word::U32(h.head_size.div_ceil(4) as u32),
                Word::U32(h.q_stride as u32),
                Word::U32(h.kv_stride as u32),
                Word::U32(h.first_q as u32),
                Word::U32(h.first_k as u32),
                Word::U32(h.first_v as u32),
                Word::Extent(Extent::new(1, Dim::Tiles)),
                Word::U32(h.mask.before),
                Word::U32(h.mask.after),
                Word::U32(self.bias.map_or(1, |b| b.reach as u32)),
                Word::F32(h.scale),
                Word::F32(h.cap.unwrap_or(1.0)),
            ],
            bindings: vec![
                Slot::Input(Input::Tiles),
                h.q,
                h.kv,
                h.kv,
                self.z,
                if h.paged() { Slot::Input(Input::Pages) } else { self.bias.map_or(h.q, |b| b.table) },
            ],
            grid: Grid::new(Extent::new(h.heads as u64, Dim::Tiles), 1),
            work: Work { flops: 4.0 * (h.heads * h.head_size) as f64, dim: Dim::Pairs },
            tilings: Vec::new(),
        }
    }
}
