//! A line a result (RFC 4180).

use std::io::{self, Write};

use super::Report;

pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "name,shape,variant,dtype,unit,value,median,spread,of_ceiling,wall,gpu,checked,models,samples")?;
    for r in &report.results {
        let maybe = |value: Option<f64>| value.map_or("n/a".into(), |value| value.to_string());
        let joined = |values: Vec<String>, by: &str| values.join(by);
        let fields = [
            field(&r.name),
            joined(r.shape.iter().map(usize::to_string).collect(), "x"),
            field(&r.variant),
            field(&r.dtype),
            field(&r.unit),
            r.value.to_string(),
            r.median.to_string(),
            r.spread.to_string(),
            maybe(r.of_ceiling),
            r.wall.to_string(),
            maybe(r.gpu),
            r.checked.to_string(),
            quoted(&joined(r.models.clone(), "; ")),
            quoted(&joined(r.samples.iter().map(f64::to_string).collect(), " ")),
        ];
        writeln!(out, "{}", fields.join(","))?;
    }
    Ok(())
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { quoted(text) } else { text.into() }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
