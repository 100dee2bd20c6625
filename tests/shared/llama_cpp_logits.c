/* The last token's logits by llama.cpp: ./logits BASE.gguf ADAPTER.gguf TOKEN…, where ADAPTER may be "". */

#include <stdio.h>
#include <stdlib.h>

#include "llama.h"

static int failed(const char * what) {
    fprintf(stderr, "llama.cpp did not load the %s\n", what);
    return 1;
}

int main(int argc, char ** argv) {
    llama_backend_init();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return failed("base");
    }
    struct llama_context_params how = llama_context_default_params();
    how.n_ctx = how.n_batch = 64;
    how.n_threads = how.n_threads_batch = 1;
    /* By default its cache and its attention are in half precision. */
    how.type_k = how.type_v = GGML_TYPE_F32;
    how.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context * context = llama_init_from_model(model, how);
    if (!context) {
        return failed("context");
    }
    if (argv[2][0]) {
        struct llama_adapter_lora * adapter = llama_adapter_lora_init(model, argv[2]);
        float scale = 1.0f;
        if (!adapter || llama_set_adapters_lora(context, &adapter, 1, &scale)) {
            return failed("adapter");
        }
    }
    llama_token tokens[64];
    int count = 0;
    for (; count < argc - 3 && count < 64; count++) {
        tokens[count] = atoi(argv[3 + count]);
    }
    if (llama_decode(context, llama_batch_get_one(tokens, count))) {
        return failed("prompt");
    }
    const float * logits = llama_get_logits_ith(context, -1);
    int size = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int token = 0; token < size; token++) {
        printf("%.9g\n", logits[token]);
    }
    return 0;
}
