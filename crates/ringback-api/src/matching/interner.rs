//! Many of the same, kept once.

use std::{collections::HashMap, hash::Hash};

/// Values by number, equal ones under one number, for as long as they are in use.
#[derive(Debug)]
pub(super) struct Interner<T> {
    numbers: HashMap<T, u32>,
    /// By number; a free number has no value.
    values: Vec<Option<(T, u32)>>,
    free: Vec<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Eq + Hash + Clone> Interner<T> {
    /// The number of a value, with one more user.
    pub(super) fn take(&mut self, value: T) -> u32 {
        if let Some(&number) = self.numbers.get(&value) {
            if let Some(Some((_, users))) = self.values.get_mut(number as usize) {
                *users += 1;
            }
            return number;
        }
        let entry = Some((value.clone(), 1));
        let number = match self.free.pop() {
            Some(number) => {
                self.values[number as usize] = entry;
                number
            }
            None => {
                self.values.push(entry);
                // Far fewer than 2^32: each is used by a subscription at least.
                (self.values.len() - 1) as u32
            }
        };
        self.numbers.insert(value, number);
        number
    }

    /// The value of a number that is in use.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (value, _) = self.values.get(number as usize)?.as_ref()?;
        Some(value)
    }

    /// One user less; the last one frees the number.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(entry) = self.values.get_mut(number as usize) else {
            return;
        };
        let Some((_, users)) = entry else { return };
        *users -= 1;
        if *users == 0
            && let Some((value, _)) = entry.take()
        {
            self.numbers.remove(&value);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_when_nobody_uses_it() {
        let mut texts = Interner::default();
        let [a, b] = ["a", "b"].map(|text| texts.take(text));
        assert_eq!(texts.take("a"), a);
        texts.give_back(a);
        assert_eq!(texts.get(a), Some(&"a"));
        texts.give_back(a);
        assert_eq!(texts.get(a), None);
        assert_eq!(texts.take("c"), a);
        assert_eq!((texts.get(a), texts.get(b)), (Some(&"c"), Some(&"b")));
        assert_ne!(texts.take("a"), a);
    }
}
