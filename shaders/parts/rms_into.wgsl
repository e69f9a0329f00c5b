// The norm's rows are read from one buffer and written to another.

@group(0) @binding(2) var<storage, read> rows: array<Element>;
@group(0) @binding(3) var<storage, read_write> output: array<Element>;

fn take(i: u32) -> Element {
    return rows[i];
}

fn put(i: u32, value: Element) {
    output[i] = value;
}
