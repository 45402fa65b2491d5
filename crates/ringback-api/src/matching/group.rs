//! The subscriptions that chose one pattern of event types, by what else they want.

use std::collections::HashMap;

use ringback_model::{EventFields, FilterPath, FilterValue, PayloadFilter};

/// The number of a subscription, or of a filter.
pub(super) type Number = u32;

/// Subscriptions that chose the same pattern.
///
/// Those with the same filter stand together, so it is judged once for all. A filter that
/// needs one value at some place is looked for only in events that have the value there.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Subscriptions without a filter.
    unfiltered: Few,
    /// Apart, since there may be a pattern for every subscription and no filter at all.
    filtered: Option<Box<ByFilter>>,
}

/// Subscriptions with a filter.
#[derive(Debug, Default)]
struct ByFilter {
    filters: HashMap<Number, Filtered>,
    /// Filters by a value that they need.
    by_value: HashMap<FilterPath, HashMap<FilterValue<'static>, Few>>,
    /// Filters that need no certain value.
    others: Few,
}

#[derive(Debug)]
struct Filtered {
    subscriptions: Few,
    /// Which of its equalities it is filed under in `by_value`.
    equality: Option<u8>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.unfiltered.as_slice().is_empty() && !self.has_filters()
    }

    pub(super) fn unfiltered(&self) -> &[Number] {
        self.unfiltered.as_slice()
    }

    pub(super) fn has_filters(&self) -> bool {
        self.filtered.is_some()
    }

    /// Shows every filter that may match, with its subscriptions. What is not shown
    /// cannot match.
    pub(super) fn candidates(
        &self,
        event: &EventFields<'_>,
        mut show: impl FnMut(Number, &[Number]),
    ) {
        let Some(filtered) = &self.filtered else {
            return;
        };
        let needing = filtered.by_value.iter().filter_map(|(path, values)| {
            let filters = values.get(&event.value(path)?)?;
            Some(filters.as_slice())
        });
        for filter in needing.flatten().chain(filtered.others.as_slice()) {
            if let Some(one) = filtered.filters.get(filter) {
                show(*filter, one.subscriptions.as_slice());
            }
        }
    }

    /// Adds a subscription, with its filter and that one's number.
    pub(super) fn insert(
        &mut self,
        subscription: Number,
        filter: Option<(Number, &PayloadFilter)>,
    ) {
        match filter {
            None => self.unfiltered.push(subscription),
            Some((number, filter)) => {
                let filtered = self.filtered.get_or_insert_default();
                filtered.insert(subscription, number, filter);
            }
        }
    }

    /// Takes a subscription out again.
    pub(super) fn remove(
        &mut self,
        subscription: Number,
        filter: Option<(Number, &PayloadFilter)>,
    ) {
        match (filter, &mut self.filtered) {
            (None, _) => self.unfiltered.remove(subscription),
            (Some(_), None) => {}
            (Some((number, filter)), Some(filtered)) => {
                filtered.remove(subscription, number, filter);
                if filtered.filters.is_empty() {
                    self.filtered = None;
                }
            }
        }
    }
}

impl ByFilter {
    fn insert(&mut self, subscription: Number, number: Number, filter: &PayloadFilter) {
        if let Some(filtered) = self.filters.get_mut(&number) {
            filtered.subscriptions.push(subscription);
            return;
        }
        let equality = self.rarest_equality(filter);
        let filtered = Filtered {
            subscriptions: Few::One(subscription),
            equality,
        };
        self.filters.insert(number, filtered);
        match equality.and_then(|index| nth_equality(filter, index)) {
            Some((path, values)) => {
                let by_value = self.by_value.entry(path.clone()).or_default();
                for value in values {
                    let filters = by_value.entry(value.clone()).or_default();
                    // A value may stand in a list twice.
                    if filters.as_slice().last() != Some(&number) {
                        filters.push(number);
                    }
                }
            }
            None => self.others.push(number),
        }
    }

    fn remove(&mut self, subscription: Number, number: Number, filter: &PayloadFilter) {
        let Some(filtered) = self.filters.get_mut(&number) else {
            return;
        };
        filtered.subscriptions.remove(subscription);
        if !filtered.subscriptions.as_slice().is_empty() {
            return;
        }
        let equality = filtered.equality;
        self.filters.remove(&number);
        match equality.and_then(|index| nth_equality(filter, index)) {
            Some((path, values)) => self.unfile(number, path, values),
            None => self.others.remove(number),
        }
    }

    fn unfile(&mut self, filter: Number, path: &FilterPath, values: &[FilterValue<'static>]) {
        let Some(by_value) = self.by_value.get_mut(path) else {
            return;
        };
        for value in values {
            if let Some(filters) = by_value.get_mut(value) {
                filters.remove(filter);
                if filters.as_slice().is_empty() {
                    by_value.remove(value);
                }
            }
        }
        if by_value.is_empty() {
            self.by_value.remove(path);
        }
    }

    /// The equality that the fewest other filters are filed under: of a country and a
    /// customer's number, the number, as soon as there are several.
    fn rarest_equality(&self, filter: &PayloadFilter) -> Option<u8> {
        let crowd = |path: &FilterPath, values: &[FilterValue<'static>]| {
            let by_value = self.by_value.get(path);
            let others = |value| by_value?.get(value).map(|filters| filters.as_slice().len());
            let most = values.iter().filter_map(others).max().unwrap_or_default();
            (most, values.len())
        };
        let equalities = filter.equalities().into_iter();
        // Filters have fewer conditions than a byte counts.
        let numbered = (0..=u8::MAX).zip(equalities);
        let rarest = numbered.min_by_key(|(_, (path, values))| crowd(path, values))?;
        Some(rarest.0)
    }
}

fn nth_equality(
    filter: &PayloadFilter,
    index: u8,
) -> Option<(&FilterPath, &[FilterValue<'static>])> {
    filter.equalities().into_iter().nth(index.into())
}

/// Numbers, mostly one: that one costs no memory of its own.
#[derive(Debug)]
enum Few {
    One(Number),
    Many(Vec<Number>),
}

impl Default for Few {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Few {
    fn as_slice(&self) -> &[Number] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Many(numbers) => numbers,
        }
    }

    fn push(&mut self, number: Number) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, number]),
            Self::Many(numbers) if numbers.is_empty() => *self = Self::One(number),
            Self::Many(numbers) => numbers.push(number),
        }
    }

    fn remove(&mut self, number: Number) {
        match self {
            Self::One(only) if *only == number => *self = Self::default(),
            Self::One(_) => {}
            Self::Many(numbers) => {
                if let Some(at) = numbers.iter().position(|&one| one == number) {
                    numbers.swap_remove(at);
                }
            }
        }
    }
}
