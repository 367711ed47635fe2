//! Huffman codes of limited length, and how a dynamic block describes its two (RFC 1951, sections 3.2.2 and 3.2.7).

use crate::bits::Bits;

/// A code over `N` symbols: how often each occurs, how long its code is, and the code, its bits reversed as they go out.
pub(crate) struct Code<const N: usize> {
    pub(crate) counts: [u32; N],
    lengths: [u8; N],
    codes: [u16; N],
}

impl<const N: usize> Code<N> {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; N], lengths: [0; N], codes: [0; N] }
    }

    #[inline(always)]
    pub(crate) fn code(&self, symbol: usize) -> (u32, u32) {
        (u32::from(self.codes[symbol]), u32::from(self.lengths[symbol]))
    }

    /// Bits that all symbols take.
    pub(crate) fn cost(&self) -> u32 {
        self.counts.iter().zip(&self.lengths).map(|(&count, &length)| count * u32::from(length)).sum()
    }

    /// Bits that literals and lengths take with the fixed code.
    pub(crate) fn fixed_cost(&self) -> u32 {
        self.counts.iter().enumerate().map(|(symbol, &count)| count * u32::from(fixed_length(symbol))).sum()
    }

    pub(crate) fn set_fixed_literals(&mut self) {
        for (symbol, length) in self.lengths.iter_mut().enumerate() {
            *length = fixed_length(symbol);
        }
        assign(&self.lengths, &mut self.codes);
    }

    pub(crate) fn set_fixed_distances(&mut self) {
        self.lengths.fill(5);
        assign(&self.lengths, &mut self.codes);
    }

    /// Gives the symbols that occur lengths of at most `limit` bits, the frequent ones the short, and assigns the codes.
    pub(crate) fn build(&mut self, limit: usize) {
        build(&self.counts, &mut self.lengths, limit);
        assign(&self.lengths, &mut self.codes);
    }
}

/// Symbols of the largest code.
const SYMBOLS: usize = 288;

#[inline(never)]
fn build(counts: &[u32], lengths: &mut [u8], limit: usize) {
    // Count above, symbol below, so that sorting by the number sorts by count.
    let mut sorted = [0_u64; SYMBOLS];
    let mut used = 0;
    for (symbol, &count) in counts.iter().enumerate() {
        if count > 0 {
            sorted[used] = u64::from(count) << 16 | symbol as u64;
            used += 1;
        }
    }
    lengths.fill(0);
    let sorted = &mut sorted[..used];
    if let [only] = sorted {
        // One symbol takes one bit; zlib's inflate wants the distances' code complete or of one symbol.
        lengths[*only as usize & 0xffff] = 1;
        return;
    }
    sort(sorted);
    let mut depths = [0_u32; SYMBOLS];
    for (depth, &entry) in depths.iter_mut().zip(&*sorted) {
        *depth = (entry >> 16) as u32;
    }
    minimum_redundancy(&mut depths[..used]);
    let mut per_length = [0_u32; 33];
    for &depth in &depths[..used] {
        per_length[(depth as usize).min(32)] += 1;
    }
    limit_lengths(&mut per_length, limit, used);
    // The most frequent get the shortest.
    let mut rest = sorted.iter().rev();
    for (length, &count) in per_length.iter().enumerate() {
        for &entry in rest.by_ref().take(count as usize) {
            lengths[entry as usize & 0xffff] = length as u8;
        }
    }
}

#[inline(never)]
fn assign(lengths: &[u8], codes: &mut [u16]) {
    let mut per_length = [0_u16; 16];
    for &length in lengths {
        per_length[usize::from(length & 15)] += 1;
    }
    per_length[0] = 0;
    let mut next = [0_u16; 16];
    let mut code = 0_u16;
    for length in 1..16 {
        code = (code + per_length[length - 1]) << 1;
        next[length] = code;
    }
    for (code, &length) in codes.iter_mut().zip(lengths) {
        let slot = &mut next[usize::from(length & 15)];
        *code = if length == 0 { 0 } else { slot.reverse_bits() >> (16 - u32::from(length & 15)) };
        *slot = slot.wrapping_add(1);
    }
}

const fn fixed_length(symbol: usize) -> u8 {
    match symbol {
        0..=143 | 280.. => 8,
        144..=255 => 9,
        256..=279 => 7,
    }
}

/// Ascending; heapsort, small and without a bad case.
fn sort(entries: &mut [u64]) {
    fn sink(heap: &mut [u64], mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let Some(&first) = heap.get(left) else { return };
            let larger = match heap.get(left + 1) {
                Some(&second) if second > first => left + 1,
                _ => left,
            };
            if heap[at] >= heap[larger] {
                return;
            }
            heap.swap(at, larger);
            at = larger;
        }
    }
    for at in (0..entries.len() / 2).rev() {
        sink(entries, at);
    }
    for end in (1..entries.len()).rev() {
        entries.swap(0, end);
        sink(&mut entries[..end], 0);
    }
}

/// Counts in ascending order become code lengths, in place (Moffat and Katajainen, 1995).
fn minimum_redundancy(a: &mut [u32]) {
    let n = a.len();
    if n < 2 {
        return;
    }
    a[0] += a[1];
    let (mut root, mut leaf) = (0, 2);
    for next in 1..n - 1 {
        if leaf >= n || a[root] < a[leaf] {
            a[next] = a[root];
            a[root] = next as u32;
            root += 1;
        } else {
            a[next] = a[leaf];
            leaf += 1;
        }
        if leaf >= n || (root < next && a[root] < a[leaf]) {
            a[next] += a[root];
            a[root] = next as u32;
            root += 1;
        } else {
            a[next] += a[leaf];
            leaf += 1;
        }
    }
    a[n - 2] = 0;
    for next in (0..n - 2).rev() {
        a[next] = a[a[next] as usize] + 1;
    }
    let (mut available, mut used, mut depth) = (1_u32, 0_u32, 0_u32);
    let mut root = n as isize - 2;
    let mut next = n as isize - 1;
    while available > 0 {
        while root >= 0 && a[root as usize] == depth {
            used += 1;
            root -= 1;
        }
        while available > used {
            a[next as usize] = depth;
            next -= 1;
            available -= 1;
        }
        available = 2 * used;
        depth += 1;
        used = 0;
    }
}

/// Shortens what is too long, and lengthens others for it until the code is complete again.
fn limit_lengths(per_length: &mut [u32; 33], limit: usize, used: usize) {
    if used < 2 {
        return;
    }
    let beyond: u32 = per_length[limit + 1..].iter().sum();
    per_length[limit + 1..].fill(0);
    per_length[limit] += beyond;
    let mut total: u32 = (1..=limit).map(|length| per_length[length] << (limit - length)).sum();
    while total > 1 << limit {
        per_length[limit] -= 1;
        for length in (1..limit).rev() {
            if per_length[length] > 0 {
                per_length[length] -= 1;
                per_length[length + 1] += 2;
                break;
            }
        }
        total -= 1;
    }
}

/// In which order the lengths of the lengths' code go out.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The description of a dynamic block's two codes.
pub(crate) struct Header {
    /// Symbol (0–18), and its extra value at bit 8.
    symbols: [u16; 288 + 30],
    symbol_count: usize,
    lengths: Code<19>,
    literals: usize,
    distances: usize,
    orders: usize,
}

const fn extra_bits(symbol: u32) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

impl Header {
    pub(crate) fn new(literals: &Code<288>, distances: &Code<30>) -> Self {
        let used = |lengths: &[u8], least: usize| lengths.iter().rposition(|&length| length > 0).map_or(least, |at| (at + 1).max(least));
        let mut header = Self {
            symbols: [0; 318],
            symbol_count: 0,
            lengths: Code::new(),
            literals: used(&literals.lengths, 257).min(286),
            distances: used(&distances.lengths, 1),
            orders: 19,
        };
        let mut all = [0_u8; 318];
        let (first, rest) = all.split_at_mut(header.literals);
        first.copy_from_slice(&literals.lengths[..header.literals]);
        rest[..header.distances].copy_from_slice(&distances.lengths[..header.distances]);
        let mut left = &all[..header.literals + header.distances];
        while let Some(&length) = left.first() {
            let run = left.iter().take_while(|&&other| other == length).count();
            let mut rest = run;
            if length == 0 {
                while rest >= 3 {
                    let now = rest.min(138);
                    if now <= 10 {
                        header.push(17, now - 3)
                    } else {
                        header.push(18, now - 11)
                    }
                    rest -= now;
                }
            } else if rest >= 4 {
                header.push(u16::from(length), 0);
                rest -= 1;
                while rest >= 3 {
                    let now = rest.min(6);
                    header.push(16, now - 3);
                    rest -= now;
                }
            }
            for _ in 0..rest {
                header.push(u16::from(length), 0);
            }
            left = &left[run..];
        }
        header.lengths.build(7);
        while header.orders > 4 && header.lengths.lengths[ORDER[header.orders - 1]] == 0 {
            header.orders -= 1;
        }
        header
    }

    fn push(&mut self, symbol: u16, extra: usize) {
        self.symbols[self.symbol_count] = symbol | (extra as u16) << 8;
        self.symbol_count += 1;
        self.lengths.counts[usize::from(symbol)] += 1;
    }

    pub(crate) fn bits(&self) -> u32 {
        let extra = |symbol: usize| self.lengths.counts[symbol] * extra_bits(symbol as u32);
        14 + 3 * self.orders as u32 + self.lengths.cost() + extra(16) + extra(17) + extra(18)
    }

    pub(crate) fn write(&self, bits: &mut Bits<'_>) {
        bits.put((self.literals - 257) as u32, 5);
        bits.put((self.distances - 1) as u32, 5);
        bits.put((self.orders - 4) as u32, 4);
        for &symbol in &ORDER[..self.orders] {
            bits.put(u32::from(self.lengths.lengths[symbol]), 3);
        }
        for &entry in &self.symbols[..self.symbol_count] {
            let symbol = u32::from(entry & 0xff);
            let (code, length) = self.lengths.code(symbol as usize);
            bits.put(code | u32::from(entry >> 8) << length, length + extra_bits(symbol));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the lengths of a code use up of all codes, in units of 2^-15.
    fn used<const N: usize>(code: &Code<N>) -> u32 {
        code.lengths.iter().filter(|&&length| length > 0).map(|&length| 1 << (15 - length)).sum()
    }

    #[test]
    fn a_code_is_complete_within_its_limit() {
        for limit in [7, 15] {
            for used_symbols in [2, 3, 5, 17, 19] {
                // Fibonacci's numbers make the deepest trees.
                let mut code = Code::<19>::new();
                let (mut a, mut b) = (1, 1);
                for count in code.counts.iter_mut().take(used_symbols) {
                    *count = a;
                    (a, b) = (b, a + b);
                }
                code.build(limit);
                assert!(code.lengths.iter().all(|&length| usize::from(length) <= limit));
                assert_eq!(code.lengths.iter().filter(|&&length| length > 0).count(), used_symbols);
                assert_eq!(used(&code), 1 << 15, "{used_symbols} symbols in {limit} bits: {:?}", code.lengths);
                assert!(code.lengths[0] >= code.lengths[used_symbols - 1], "the rare ones are not the short ones");
            }
        }
    }

    #[test]
    fn none_and_one_symbol() {
        let mut code = Code::<30>::new();
        code.build(15);
        assert_eq!((used(&code), code.cost()), (0, 0));
        code.counts[29] = 7;
        code.build(15);
        assert_eq!((code.lengths[29], code.code(29), code.cost()), (1, (0, 1), 7));
    }

    #[test]
    fn all_symbols_alike() {
        let mut code = Code::<288>::new();
        code.counts.fill(1);
        code.build(15);
        assert_eq!(used(&code), 1 << 15);
        assert!(code.lengths.iter().all(|&length| length == 8 || length == 9));
    }

    #[test]
    fn the_fixed_code_is_that_of_the_rfc() {
        // RFC 1951, section 3.2.6: literals from 00110000 and 110010000, lengths from 0000000 and 11000000; bits go out reversed.
        let mut code = Code::<288>::new();
        code.set_fixed_literals();
        for (symbol, value, length) in
            [(0, 0b0011_0000_u16, 8), (144, 0b1_1001_0000, 9), (256, 0, 7), (279, 0b001_0111, 7), (280, 0b1100_0000, 8)]
        {
            assert_eq!(code.code(symbol), (u32::from(value.reverse_bits() >> (16 - length)), length));
        }
    }
}
