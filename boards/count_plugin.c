/* A QEMU TCG plugin that counts executed instructions between two marks, exactly and repeatably.
 *
 *     qemu-... -plugin count.so,out=FILE,from=0x8120,to=0x8124 program
 *
 * FILE gets "region N" (instructions after the first one at `from`, before the one at `to`) and, for each address that
 * was executed in it, "ADDRESS N". Predicated instructions count whether their condition holds or not. For one thread
 * of the guest; the marks must be places that are jumped to, as functions are.
 *
 * Every translated block has a counter that the emulated code itself adds to, so nothing is called and little is lost;
 * only the two marks call back, to read the counters. Debian has no qemu-plugin.h: the declarations used are below. */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The part of QEMU's plugin interface that is used; the same in versions 1 and 2 ------------------------------- */

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
enum { QEMU_PLUGIN_CB_NO_REGS = 0, QEMU_PLUGIN_INLINE_ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif
__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info,
                                                               int argc, char **argv);

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */

typedef struct block {
    uint64_t runs, before, within; /* so far; at the first mark; between the marks */
    struct block *next;
    size_t length;
    uint64_t address[]; /* (length,) of its instructions */
} block;

static block *blocks;
static uint64_t from, to;
static const char *out;
static int state; /* 0 before the first mark, 1 between, 2 behind: only the first pair counts */

static void begin(unsigned cpu, void *data)
{
    block *mark = data;
    (void)cpu;
    if (state != 0) return;
    state = 1;
    for (block *b = blocks; b != NULL; b = b->next) b->before = b->runs;
    mark->before--; /* what follows the mark in its own block belongs to the region; the mark itself is taken off below */
}

static void end(unsigned cpu, void *data)
{
    block *mark = data;
    (void)cpu;
    if (state != 1) return;
    state = 2;
    for (block *b = blocks; b != NULL; b = b->next) b->within = b->runs - b->before;
    mark->within--;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t length = qemu_plugin_tb_n_insns(tb);
    block *b = calloc(1, sizeof *b + length * sizeof *b->address);
    (void)id;
    if (b == NULL) abort();
    b->length = length;
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &b->runs, 1);
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        b->address[i] = qemu_plugin_insn_vaddr(instruction);
        if (b->address[i] == from)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, begin, QEMU_PLUGIN_CB_NO_REGS, b);
        if (b->address[i] == to) qemu_plugin_register_vcpu_insn_exec_cb(instruction, end, QEMU_PLUGIN_CB_NO_REGS, b);
    }
}

/* ---- The result -------------------------------------------------------------------------------------------------- */

static void finish(qemu_plugin_id_t id, void *data)
{
    FILE *file = state == 2 && out != NULL ? fopen(out, "w") : NULL;
    uint64_t region = 0;
    (void)id, (void)data;
    if (file == NULL) {
        fprintf(stderr, "count: the marks were not passed, or no file to write\n");
        return;
    }
    for (const block *b = blocks; b != NULL; b = b->next) {
        region += b->within * b->length;
        for (size_t i = 0; i < b->length && b->within != 0; i++) {
            fprintf(file, "%" PRIx64 " %" PRIu64 "\n", b->address[i], b->within);
        }
    }
    fprintf(file, "region %" PRIu64 "\n", region - 1); /* less the first mark */
    fclose(file);
}

/* The value of KEY=value, or NULL. */
static const char *value(const char *argument, const char *key)
{
    const size_t length = strlen(key);
    return strncmp(argument, key, length) == 0 && argument[length] == '=' ? argument + length + 1 : NULL;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        const char *text;
        if ((text = value(argv[i], "out")) != NULL) {
            out = strdup(text);
        } else if ((text = value(argv[i], "from")) != NULL) {
            from = strtoull(text, NULL, 0);
        } else if ((text = value(argv[i], "to")) != NULL) {
            to = strtoull(text, NULL, 0);
        } else {
            fprintf(stderr, "count: unknown argument %s\n", argv[i]);
            return -1;
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
