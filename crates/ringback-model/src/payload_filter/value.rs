//! Values that conditions compare with.

use std::{borrow::Cow, cmp::Ordering};

use super::{json::Json, number::Decimal};

/// A value that can be compared: no array and no object.
///
/// Equal values hash alike, so an index can be kept by them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterValue<'a>(Scalar<'a>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scalar<'a> {
    Null,
    Bool(bool),
    /// Boxed, since an index holds many of these and few are numbers.
    Number(Box<Decimal>),
    Text(Cow<'a, str>),
}

impl<'a> FilterValue<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self(Scalar::Text(Cow::Borrowed(text)))
    }

    /// `None` for arrays and objects, and for a number that is beyond comparing.
    pub(super) fn read(json: &'a Json<'_>) -> Option<Self> {
        Some(Self(match json {
            Json::Null => Scalar::Null,
            Json::Bool(is) => Scalar::Bool(*is),
            Json::Number(text) => Scalar::Number(Box::new(Decimal::read(text)?)),
            Json::Text(text) => Scalar::Text(Cow::Borrowed(text)),
            Json::List(_) | Json::Object(_) | Json::Deep => return None,
        }))
    }

    /// Borrows nothing.
    pub(super) fn into_owned(self) -> FilterValue<'static> {
        FilterValue(match self.0 {
            Scalar::Null => Scalar::Null,
            Scalar::Bool(is) => Scalar::Bool(is),
            Scalar::Number(number) => Scalar::Number(number),
            Scalar::Text(text) => {
                let mut text = text.into_owned();
                text.shrink_to_fit();
                Scalar::Text(Cow::Owned(text))
            }
        })
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// `None` if the two are of different kinds, or of one that has no order.
    pub(super) fn order(&self, other: &FilterValue<'_>) -> Option<Ordering> {
        match (&self.0, &other.0) {
            (Scalar::Number(one), Scalar::Number(other)) => Some(one.cmp(other)),
            // The order of UTF-8's bytes is that of code points.
            (Scalar::Text(one), Scalar::Text(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }

    pub(super) fn has_order(&self) -> bool {
        self.order(self).is_some()
    }
}
