"""The engine: plan, read ahead, restore, write behind, keep the journal, finalize."""
