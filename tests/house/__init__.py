"""House rules: conventions as tests, and documents compared with the code. Each failure says what to write."""
