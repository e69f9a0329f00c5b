//! What came of a run, and its forms: a Markdown table for people, CSV and JSON for programs, an SVG of the roofline.

mod csv;
mod markdown;
mod number;
mod svg;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::ceilings::{Bound, Ceilings};
use super::start::Start;
pub(super) use number::number;

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// 1.
    pub schema: u32,
    /// Of thalweg.
    pub version: String,
    /// `quick` or `full`.
    pub suite: String,
    /// Of the random inputs.
    pub seed: u64,
    /// What it ran on.
    pub adapter: Adapter,
    /// The adapter's own.
    pub ceilings: Ceilings,
    /// Everything whose output was verified.
    pub results: Vec<Measured>,
    /// Whose output was not what the reference says: never a number.
    pub wrong: Vec<Wrong>,
    /// What was not measured, and why.
    pub skipped: Vec<Skipped>,
    /// Cold starts.
    pub starts: Vec<Start>,
}

/// An adapter, its driver, and the machine around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// As the driver says.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// Name of the driver.
    pub driver: String,
    /// Its version.
    pub driver_info: String,
    /// What the engine takes it for: `Cpu`, `Integrated` or `Discrete`.
    pub class: String,
    /// Cores of the host that this process may use.
    pub host_cores: usize,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The kernel; of a whole model, the test, such as `pp512`.
    pub name: String,
    /// Its sizes; of `matmul`, M, N and K.
    pub shape: Vec<usize>,
    /// The variant's label; of a whole model, the model.
    pub variant: String,
    /// How weights are stored.
    pub dtype: String,
    /// Of the value, the samples and the median.
    pub unit: String,
    /// The median.
    pub value: f64,
    /// Each repetition.
    pub samples: Vec<f64>,
    /// Of the samples.
    pub median: f64,
    /// Largest less smallest sample, as a share of the median.
    pub spread: f64,
    /// The time that the nearer ceiling would allow, as a share of the time that it took.
    pub of_ceiling: Option<f64>,
    /// Always true: nothing else is a result.
    pub checked: bool,
    /// ‖out − ref‖/‖ref‖ of the verified output.
    pub error: Option<f64>,
    /// The ceiling that is the nearer.
    pub bound: Option<Bound>,
    /// By the wall clock.
    pub wall: f64,
    /// By the GPU's own clock; the value is this where there is one.
    pub gpu: Option<f64>,
    /// Floating-point operations of an execution.
    pub flops: f64,
    /// Bytes that an execution has to move.
    pub bytes: f64,
    /// The models that have this shape.
    pub models: Vec<String>,
}

/// What is wrong on this adapter, by the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wrong {
    /// As [`Measured::name`].
    pub name: String,
    /// As [`Measured::shape`].
    pub shape: Vec<usize>,
    /// As [`Measured::variant`].
    pub variant: String,
    /// As [`Measured::dtype`].
    pub dtype: String,
    /// One sentence.
    pub what: String,
}

/// What was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// What.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables for people.
    Markdown,
    /// A line a result.
    Csv,
    /// One object, schema 1.
    Json,
    /// The roofline, with each kernel on it.
    Svg,
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Markdown => markdown::write(self, out),
            Format::Csv => csv::write(self, out),
            Format::Svg => svg::write(self, out),
            Format::Json => {
                serde_json::to_writer_pretty(&mut *out, self)?;
                writeln!(out)
            }
        }
    }
}

/// `128 × 384`.
fn sizes(shape: &[usize]) -> String {
    let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
    sizes.join(" × ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::Ceiling;

    /// One kernel, one model and something wrong.
    pub fn sample() -> Report {
        let ceiling = |value: f64, unit: &str| Ceiling {
            unit: unit.into(),
            value: Some(value),
            samples: vec![value; 5],
            median: Some(value),
            spread: Some(0.0),
            wall: Some(value),
            ..Ceiling::default()
        };
        let measured = |name: &str, shape: &[usize], variant: &str, unit: &str, value: f64| Measured {
            name: name.into(),
            shape: shape.to_vec(),
            variant: variant.into(),
            dtype: "f32".into(),
            unit: unit.into(),
            value,
            samples: vec![value; 5],
            median: value,
            spread: 0.25,
            of_ceiling: Some(0.5),
            checked: true,
            error: Some(1e-7),
            bound: Some(Bound::Arithmetic),
            wall: value,
            gpu: None,
            flops: 2e9,
            bytes: 4e6,
            models: vec!["A & <B>".into()],
        };
        Report {
            schema: 1,
            version: "0.1.0".into(),
            suite: "quick".into(),
            seed: 7,
            adapter: Adapter {
                name: "A & B \"<GPU>\"".into(),
                backend: "vulkan".into(),
                driver: "driver".into(),
                driver_info: "1.0".into(),
                class: "Cpu".into(),
                host_cores: 2,
            },
            ceilings: Ceilings {
                copy: ceiling(10.0, "GB/s"),
                fma_f32: ceiling(50.0, "GFLOP/s"),
                fma_f16: Ceiling { unit: "GFLOP/s".into(), note: Some("no f16".into()), ..Ceiling::default() },
                ..Ceilings::default()
            },
            results: vec![
                measured("matmul", &[512, 512, 512], "matmul[register,f32,vec4]", "GFLOP/s", 25.0),
                measured("gate", &[128, 1536], "gate[silu]", "GB/s", 1234.5),
                measured("pp512", &[512], "A | B", "tokens/s", 0.0123),
            ],
            wrong: vec![Wrong {
                name: "softmax".into(),
                shape: vec![1, 2],
                variant: "softmax[workgroup]".into(),
                dtype: "f32".into(),
                what: "1 instead of \"2\"".into(),
            }],
            skipped: vec![Skipped { name: "Llama-8B".into(), reason: "too large".into() }],
            starts: vec![Start { model: "small".into(), pipeline_cache: "empty".into(), ..Start::default() }],
        }
    }

    fn text(format: Format) -> String {
        let mut out = Vec::new();
        sample().write(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_the_fixed_keys() {
        let value: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!((&value["schema"], &value["version"]), (&1.into(), &"0.1.0".into()));
        assert!(value["adapter"].is_object() && value["ceilings"].is_object());
        for result in value["results"].as_array().unwrap() {
            for key in ["name", "shape", "variant", "dtype", "unit", "value", "samples", "median", "spread"] {
                assert!(!result[key].is_null(), "{key}: {result}");
            }
            assert!(result.get("of_ceiling").is_some() && result["checked"] == true, "{result}");
        }
        assert!(value["ceilings"]["fma_f16"]["value"].is_null());
    }

    #[test]
    fn markdown_says_na_and_never_0_and_names_what_is_wrong() {
        let text = text(Format::Markdown);
        assert!(text.contains("| f16 fma | n/a | GFLOP/s |"), "{text}");
        assert!(
            text.contains("| matmul | 512 × 512 × 512 | matmul[register,f32,vec4] | f32 | 25.0 | GFLOP/s |"),
            "{text}"
        );
        assert!(text.contains("A \\| B") && text.contains("0.0123") && text.contains("1,235"), "{text}");
        assert!(text.contains("WRONG softmax 1 × 2, softmax[workgroup], f32: 1 instead of \"2\""), "{text}");
        assert!(text.contains("not measured: Llama-8B: too large"), "{text}");
    }

    #[test]
    fn csv_quotes() {
        let text = text(Format::Csv);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("name,shape,variant,dtype,unit,value,"), "{text}");
        assert!(lines[1].starts_with("matmul,512x512x512,\"matmul[register,f32,vec4]\",f32,GFLOP/s,25,"), "{text}");
        assert!(lines.iter().all(|line| line.ends_with('"') || line == &lines[0]), "{text}");
    }

    #[test]
    fn svg_escapes() {
        let svg = text(Format::Svg);
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("A &amp; B &quot;&lt;GPU&gt;&quot;") && !svg.contains("<GPU>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
