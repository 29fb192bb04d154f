/* interpreter.c: what a C programmer would write by hand for the west workload: one switch over its four operations,
   forward over a list of them, backward over the same list reversed. */
#include <math.h>

enum { SOFTPLUS, SUM, PRODUCT, SOFTMAX };

typedef struct {
  int kind, result, operands[4];
} Operation;

void forward(const Operation *o, int count, double *v) {
  for (; count--; ++o) {
    const int *x = o->operands;
    double *z = v + o->result;
    switch (o->kind) {
      case SOFTPLUS:
        *z = log(exp(v[x[0]]) + 1.0);
        break;
      case SUM:
        *z = v[x[0]] + v[x[1]] + v[x[2]] + v[x[3]];
        break;
      case PRODUCT:
        *z = v[x[0]] * v[x[1]];
        break;
      case SOFTMAX: {
        double a = exp(v[x[0]]), b = exp(v[x[1]]), c = exp(v[x[2]]), d = exp(v[x[3]]);
        double inverse = 1.0 / (a + b + c + d);
        z[0] = a * inverse;
        z[1] = b * inverse;
        z[2] = c * inverse;
        z[3] = d * inverse;
      }
    }
  }
}

void backward(const Operation *o, int count, const double *v, double *g) {
  for (o += count; count--;) {
    --o;
    const int *x = o->operands;
    const double *z = v + o->result, *gz = g + o->result;
    switch (o->kind) {
      case SOFTPLUS:
        g[x[0]] += *gz * exp(v[x[0]] - *z);
        break;
      case SUM:
        for (int k = 0; k < 4; ++k) g[x[k]] += *gz;
        break;
      case PRODUCT:
        g[x[0]] += *gz * v[x[1]];
        g[x[1]] += *gz * v[x[0]];
        break;
      case SOFTMAX: {
        double mean = z[0] * gz[0] + z[1] * gz[1] + z[2] * gz[2] + z[3] * gz[3];
        for (int k = 0; k < 4; ++k) g[x[k]] += z[k] * (gz[k] - mean);
      }
    }
  }
}
