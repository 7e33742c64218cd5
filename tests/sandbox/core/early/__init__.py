"""What the Core of 2021 and 2022 does in its own way: credits, requests read as declared, logs as streams."""
