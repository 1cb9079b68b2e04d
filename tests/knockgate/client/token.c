/* A token that is none, for OpenSSH's programs: what sk-api.h of OpenSSH 8.9 and later asks of a provider.
 *
 * The key's handle is the private key. It is touched whenever somebody asks; its PIN is 1234.
 */
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 0x000a0000, ED25519 = 1, VERIFY = 0x04, GENERAL = -1, NO_PIN = -3, COUNTER = 7 };

struct sk_enroll_response {
    uint8_t flags;
    uint8_t *public_key;
    size_t public_key_len;
    uint8_t *key_handle;
    size_t key_handle_len;
    uint8_t *signature;
    size_t signature_len;
    uint8_t *attestation_cert;
    size_t attestation_cert_len;
    uint8_t *authdata;
    size_t authdata_len;
};

struct sk_sign_response {
    uint8_t flags;
    uint32_t counter;
    uint8_t *sig_r;
    size_t sig_r_len;
    uint8_t *sig_s;
    size_t sig_s_len;
};

uint32_t sk_api_version(void) { return VERSION; }

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application,
              uint8_t flags, const char *pin, void **options, struct sk_enroll_response **response)
{
    struct sk_enroll_response *found = calloc(1, sizeof *found);
    EVP_PKEY *key = alg == ED25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen("P-256");
    int size = i2d_PrivateKey(key, &found->key_handle);

    (void)challenge, (void)challenge_len, (void)application, (void)options;
    if (flags & VERIFY && (!pin || strcmp(pin, "1234")))
        return NO_PIN;
    found->flags = flags;
    found->key_handle_len = (size_t)size;
    found->public_key = malloc(65);
    EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, found->public_key, 65,
                                    &found->public_key_len);
    found->signature = calloc(1, found->signature_len = 1);
    EVP_PKEY_free(key);
    *response = found;
    return 0;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application,
            const uint8_t *handle, size_t handle_len, uint8_t flags, const char *pin, void **options,
            struct sk_sign_response **response)
{
    struct sk_sign_response *found = calloc(1, sizeof *found);
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &handle, (long)handle_len);
    EVP_MD_CTX *signing = EVP_MD_CTX_new();
    uint8_t text[32 + 1 + 4 + 32] = {0}, *octets = malloc(128);
    const uint8_t *begin = octets;
    size_t size = 128;

    (void)options;
    if (flags & VERIFY && (!pin || strcmp(pin, "1234")))
        return NO_PIN;
    SHA256((const uint8_t *)application, strlen(application), text);
    found->flags = text[32] = flags;
    found->counter = text[36] = COUNTER;
    SHA256(data, data_len, text + 37);
    if (!EVP_DigestSignInit(signing, NULL, alg == ED25519 ? NULL : EVP_sha256(), NULL, key) ||
        !EVP_DigestSign(signing, octets, &size, text, sizeof text))
        return GENERAL;
    if (alg == ED25519) {
        found->sig_r = octets;
        found->sig_r_len = size;
    } else {
        ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &begin, (long)size);
        found->sig_r = malloc(32);
        found->sig_s = malloc(32);
        found->sig_r_len = (size_t)BN_bn2bin(ECDSA_SIG_get0_r(numbers), found->sig_r);
        found->sig_s_len = (size_t)BN_bn2bin(ECDSA_SIG_get0_s(numbers), found->sig_s);
        ECDSA_SIG_free(numbers);
        free(octets);
    }
    EVP_MD_CTX_free(signing);
    EVP_PKEY_free(key);
    *response = found;
    return 0;
}

int sk_load_resident_keys(const char *pin, void **options, void ***keys, size_t *number)
{
    (void)pin, (void)options, (void)keys, (void)number;
    return GENERAL;
}
