/* The extension module; see __init__.py for what it promises. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *bytes_of(const void *items, size_t size) { return PyBytes_FromStringAndSize(items, (Py_ssize_t)size); }

#include "coding.h"
#include "key_table.h"

static PyMethodDef FUNCTIONS[] = {{"encode_cell", encode_cell, METH_VARARGS, NULL},
                                  {"lane_rows", lane_rows, METH_VARARGS, NULL},
                                  {NULL, NULL, 0, NULL}};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, FUNCTIONS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *module = PyModule_Create(&MODULE);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&SPEC);
    if (type == NULL || PyModule_AddObjectRef(module, "KeyTable", type) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
