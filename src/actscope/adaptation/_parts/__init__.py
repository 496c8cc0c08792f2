"""What several ways to adapt share."""
