"""What tests share: private servers, fixtures, makers of test data."""
