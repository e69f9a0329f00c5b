//! The linker: joins a variant's parts and its kernel into one WGSL text, and keeps a table of where lines came from.

use std::fmt::Write as _;

use super::Variant;

/// Which compiler the text is for; they differ in the directives they accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// naga 30 knows subgroup operations without `enable subgroups;`, and rejects that directive.
    Naga,
    /// Dawn's tint demands it.
    Tint,
}

/// A linked kernel.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The text to compile.
    pub wgsl: String,
    /// First line (from 1) of each file in the text, ascending.
    lines: Vec<(usize, &'static str)>,
}

macro_rules! sources {
    ($($stem:literal),* $(,)?) => {
        /// Every shader file by its path in `shaders/`; a test compares the list with the folder.
        pub const SOURCES: &[(&str, &str)] =
            &[$(($stem, include_str!(concat!("../../shaders/", $stem, ".wgsl")))),*];
    };
}

sources![
    "attention",
    "attention_merge",
    "attention_mix",
    "attention_scores",
    "attention_split",
    "edit",
    "embed",
    "gate",
    "kv_store",
    "l2_normalize",
    "layer_norm",
    "logit_stats",
    "matmul",
    "matvec",
    "pool",
    "residual_add",
    "rms_norm",
    "rope",
    "sample",
    "soft_cap",
    "softmax",
    "split_heads",
    "summarize",
    "surprise",
    "take",
    "bench/copy",
    "bench/fma_rate",
    "bench/matrix_rate",
    "parts/activation",
    "parts/attention_cooperative",
    "parts/attention_cooperative16",
    "parts/attention_cooperative8",
    "parts/attention_query",
    "parts/attention_tile",
    "parts/elements_scalar",
    "parts/elements_vec4",
    "parts/finish",
    "parts/heads_scalar",
    "parts/heads_vec4",
    "parts/keys_paged",
    "parts/keys_rows",
    "parts/logits",
    "parts/matmul_cooperative",
    "parts/matmul_cooperative16",
    "parts/matmul_cooperative8",
    "parts/matmul_large",
    "parts/matmul_plain",
    "parts/matmul_register",
    "parts/matmul_skinny",
    "parts/matmul_subgroup",
    "parts/matmul_tall",
    "parts/matmul_workgroup",
    "parts/matrices16",
    "parts/matrices8",
    "parts/matvec_columns",
    "parts/matvec_depth",
    "parts/norm_inplace",
    "parts/norm_into",
    "parts/out_add",
    "parts/out_store",
    "parts/powers",
    "parts/real_f16",
    "parts/real_f32",
    "parts/reduce_subgroup",
    "parts/reduce_workgroup",
    "parts/rms_inplace",
    "parts/rms_into",
    "parts/rows_scalar",
    "parts/share_none",
    "parts/share_subgroup",
    "parts/rows_vec4",
    "parts/rows_wide",
    "parts/scales_k",
    "parts/state_registers",
    "parts/state_workgroup",
    "parts/sums16",
    "parts/sums_own",
    "parts/sums_shared",
    "parts/tanh",
    "parts/tiles",
    "parts/unscaled",
    "parts/weight_bf16",
    "parts/weight_bf16_wide",
    "parts/weight_blocks",
    "parts/weight_f16",
    "parts/weight_f16_wide",
    "parts/weight_f32",
    "parts/weight_f32_wide",
    "parts/weight_q4_0",
    "parts/weight_q4_k",
    "parts/weight_q5_k",
    "parts/weight_q6_k",
    "parts/weight_q8_0",
];

/// Links a variant.
///
/// # Panics
/// If the variant names a file that is not in [`SOURCES`]: a bug that every test of the inventory finds.
pub fn link(variant: &Variant, dialect: Dialect) -> Linked {
    let mut linked = Linked { wgsl: String::new(), lines: Vec::new() };
    if variant.needs.features.contains(wgpu::Features::SHADER_F16) {
        linked.wgsl.push_str("enable f16;\n");
    }
    if variant.needs.features.contains(wgpu::Features::SUBGROUP) && dialect == Dialect::Tint {
        linked.wgsl.push_str("enable subgroups;\n");
    }
    if variant.needs.matrix > 0 {
        linked.wgsl.push_str("enable wgpu_cooperative_matrix;\n");
    }
    for part in &variant.parts {
        linked.push(&format!("parts/{part}"));
    }
    linked.push(variant.kernel);
    linked
}

impl Linked {
    fn push(&mut self, stem: &str) {
        // the benchmark's probes lie in a folder of their own
        let named = |name: &str| name == stem || name.strip_prefix("bench/") == Some(stem);
        let Some((stem, text)) = SOURCES.iter().find(|(name, _)| named(name)) else {
            panic!("no shader file {stem}.wgsl");
        };
        self.lines.push((self.wgsl.lines().count() + 1, stem));
        self.wgsl.push_str(text);
        if !text.ends_with('\n') {
            self.wgsl.push('\n');
        }
    }

    /// The file and its own line of a line (from 1) of the linked text.
    pub fn locate(&self, line: usize) -> Option<(&'static str, usize)> {
        self.lines.iter().rev().find(|(first, _)| *first <= line).map(|(first, stem)| (*stem, line - first + 1))
    }

    /// Rewrites `wgsl:LINE:` in a compiler's message to the real file and line.
    pub fn name_lines(&self, message: &str) -> String {
        let mut out = String::new();
        let mut rest = message;
        while let Some(at) = rest.find("wgsl:") {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let digits: String = after[5..].chars().take_while(char::is_ascii_digit).collect();
            match digits.parse().ok().and_then(|line| self.locate(line)) {
                Some((stem, line)) => {
                    let _ = write!(out, "shaders/{stem}.wgsl:{line}");
                    rest = &after[5 + digits.len()..];
                }
                None => {
                    out.push_str("wgsl:");
                    rest = &after[5..];
                }
            }
        }
        out + rest
    }
}
