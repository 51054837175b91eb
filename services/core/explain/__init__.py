"""Why a model says what it says: maps over its input, their colours, and how far they may be trusted."""
