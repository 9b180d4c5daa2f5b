//! How the facts that an inventory job prints are to be shown.

use serde::{Deserialize, Serialize};

/// Display hints of a job whose stdout is a JSON document of facts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InventoryHints {
    /// The columns to show, in order.
    #[serde(default)]
    pub display: Vec<DisplayField>,
    /// A template or field name for one line about an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub summary: Option<serde_json::Value>,
}

/// One column of an inventory table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DisplayField {
    /// The name of the fact.
    pub field: String,
    /// The heading.
    pub label: String,
    /// How to format it (`bytes`, `date`, …); plain text when missing.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}
