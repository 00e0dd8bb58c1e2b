//! Old stored versions of events become current ones when they are read. Stored bytes never change.

use cqrs_es::persist::{EventUpcaster, SerializedEvent};

/// Every upcaster, in the order in which they apply. Each lifts one version of one event type to the
/// next; personal fields are opened before, with the stored type and version.
pub fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
    Vec::new()
}

/// Lifts an event to the current version.
pub fn upcast(event: SerializedEvent, upcasters: &[Box<dyn EventUpcaster>]) -> SerializedEvent {
    upcasters.iter().fold(event, |event, upcaster| {
        if upcaster.can_upcast(&event.event_type, &event.event_version) {
            upcaster.upcast(event)
        } else {
            event
        }
    })
}

#[cfg(test)]
mod tests {
    use cqrs_es::persist::SemanticVersionEventUpcaster;
    use serde_json::json;

    use super::*;

    #[test]
    fn upcasters_of_the_framework_apply_in_order() {
        let rename = |from: &'static str, to: &'static str| {
            move |mut payload: serde_json::Value| {
                payload[to] = payload[from].take();
                payload
            }
        };
        let chain: Vec<Box<dyn EventUpcaster>> = vec![
            Box::new(SemanticVersionEventUpcaster::new(
                "user.renamed",
                "2",
                Box::new(rename("a", "b")),
            )),
            Box::new(SemanticVersionEventUpcaster::new(
                "user.renamed",
                "3",
                Box::new(rename("b", "c")),
            )),
        ];
        let event = SerializedEvent {
            aggregate_id: "u1".into(),
            sequence: 1,
            aggregate_type: "user".into(),
            event_type: "user.renamed".into(),
            event_version: "1".into(),
            payload: json!({"a": 1}),
            metadata: json!({}),
        };
        let lifted = upcast(event, &chain);
        assert_eq!(
            (lifted.event_version.as_str(), &lifted.payload["c"]),
            ("3.0.0", &json!(1))
        );
    }
}
