"""Feature extractors that people expect: FID's Inception, CLIP's classes in words, LPIPS. No weights are shipped."""
