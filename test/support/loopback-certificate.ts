/**
 * A certificate of 127.0.0.1 and localhost, its own authority, and its key: for servers of tests. It
 * proves nothing to anybody; who trusts it is told so by the test.
 */

export const loopbackKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqnD171Y4CVFhKEDK
AaECyp4+80yXMpFHKJ6v7jIiW3GhRANCAASV7W0CJR6xJAUuImnJmgjsmAm+75Vc
xSK7tV9fIG4H/hD5WeQWMamFgwYppRDuszdPoYXqxtp7J9OPTi1rme6o
-----END PRIVATE KEY-----
`;

export const loopbackCertificate = `-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1pbWdzdG9y
ZSB0ZXN0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1pbWdzdG9yZSB0ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEle1t
AiUesSQFLiJpyZoI7JgJvu+VXMUiu7VfXyBuB/4Q+VnkFjGphYMGKaUQ7rM3T6GF
6sbaeyfTj04ta5nuqKNOMEwwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARhwR/
AAABgglsb2NhbGhvc3QwHQYDVR0OBBYEFE7g147pBJ84jNYyVurwsMO0hkQFMAoG
CCqGSM49BAMCA0gAMEUCIQDrjfgPSsxwmE1PlMq248rVPhBCQeDUqX/AeIirsb4E
NAIgQpshbZ6F6nSr4Nq2a2Dt7DUiYRz+Qb4gLnO1rGDxGW8=
-----END CERTIFICATE-----
`;
