"""What the rules share: word lists, labelled text, the split into train and test."""
