//! Names of objects in a region's store.

use std::fmt;
use std::str::FromStr;

/// Why a string is not an object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object's name has the form objects/<2 hex>/<sweep epoch>-<32 hex>")]
pub struct InvalidObjectName;

/// `objects/<2 hex>/<sweep epoch>-<128 random bits>`: fixed when an upload starts, never overwritten, never reused,
/// so that a delete can only ever hit the very object that it meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    epoch: u64,
    random: [u8; 16],
}

impl ObjectName {
    /// A new name in a sweep epoch.
    pub fn random(epoch: u64) -> Self {
        Self { epoch, random: rand::random() }
    }

    /// From its parts.
    pub const fn from_parts(epoch: u64, random: [u8; 16]) -> Self {
        Self { epoch, random }
    }

    /// The sweep epoch of its region in which the upload started.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What makes it unique within its epoch.
    pub const fn random_bits(&self) -> &[u8; 16] {
        &self.random
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = const_hex::encode(self.random);
        write!(f, "objects/{}/{}-{hex}", &hex[..2], self.epoch)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectName {
    type Err = InvalidObjectName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (shard, name) = text.strip_prefix("objects/").and_then(|r| r.split_once('/')).ok_or(InvalidObjectName)?;
        let (epoch, hex) = name.split_once('-').ok_or(InvalidObjectName)?;
        let mut random = [0; 16];
        const_hex::decode_to_slice(hex, &mut random).map_err(|_| InvalidObjectName)?;
        let parsed = Self { epoch: epoch.parse().map_err(|_| InvalidObjectName)?, random };
        // Printing it again refuses every second spelling: leading zeros, signs, capitals, a wrong shard.
        if hex.get(..2) == Some(shard) && parsed.to_string() == text { Ok(parsed) } else { Err(InvalidObjectName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_object_has_one_spelling() {
        let good = "objects/ab/7-ab000000000000000000000000000001";
        assert_eq!(good.parse::<ObjectName>().map(|n| n.to_string()), Ok(good.to_owned()));
        for bad in [
            "objects/aa/7-ab000000000000000000000000000001",
            "objects/ab/07-ab000000000000000000000000000001",
            "objects/ab/+7-ab000000000000000000000000000001",
            "objects/AB/7-AB000000000000000000000000000001",
            "objects/ab/7-ab",
            "objects/../7-ab000000000000000000000000000001",
            "",
        ] {
            assert_eq!(bad.parse::<ObjectName>(), Err(InvalidObjectName), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(epoch: u64, random: [u8; 16]) {
            let name = ObjectName::from_parts(epoch, random);
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<ObjectName>();
        }
    }
}
