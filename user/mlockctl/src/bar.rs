// SPDX-License-Identifier: GPL-2.0

//! How much of something is in memory, as a small bar.

const WIDTH: usize = 12;

/// `part` of `all`, from the left.
pub(crate) fn share(part: u64, all: u64) -> String {
    let full = match all {
        0 => 0,
        _ => (part.min(all) as u128 * WIDTH as u128 / all as u128) as usize,
    };
    // A little is not nothing.
    let some = part > 0 && full < WIDTH;
    let cells = (0..WIDTH).map(|cell| match cell {
        _ if cell < full => '█',
        _ if cell == full && some => '▒',
        _ => '░',
    });
    cells.collect()
}

/// Which pages of a file are there, from its begin to its end.
pub(crate) fn places(pages: &[bool]) -> String {
    let cell = |n: usize| {
        let (start, end) = (n * pages.len() / WIDTH, (n + 1) * pages.len() / WIDTH);
        let cell = &pages[start..end.max(start + 1).min(pages.len())];
        match cell.iter().filter(|&&there| there).count() {
            0 => '░',
            some if some == cell.len() => '█',
            _ => '▒',
        }
    };
    (0..WIDTH).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_full_only_if_all_is_there() {
        assert_eq!(share(0, 100), "░░░░░░░░░░░░");
        assert_eq!(share(1, 100), "▒░░░░░░░░░░░");
        assert_eq!(share(50, 100), "██████▒░░░░░");
        assert_eq!(share(99, 100), "███████████▒");
        assert_eq!(share(100, 100), "████████████");
        assert_eq!(share(0, 0), "░░░░░░░░░░░░");
    }

    #[test]
    fn places_are_in_order() {
        let mut pages = vec![true; 24];
        assert_eq!(places(&pages), "████████████");
        pages[0] = false;
        pages[22..].fill(false);
        assert_eq!(places(&pages), "▒██████████░");
        assert_eq!(places(&[true]), "████████████");
        assert_eq!(places(&[]), "░░░░░░░░░░░░");
    }
}
