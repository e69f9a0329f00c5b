// The norm's rows are normalised in place.

@group(0) @binding(2) var<storage, read_write> rows: array<Element>;

fn take(i: u32) -> Element {
    return rows[i];
}

fn put(i: u32, value: Element) {
    rows[i] = value;
}
