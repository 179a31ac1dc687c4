"""From what Pipedrive sent to typed rows: validation, custom fields, masks, frames. One page in, one frame out; no time."""
