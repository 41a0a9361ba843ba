/* Stands in for libtorch_python.so, which torchvision's libraries list as needed for their use from Python.
   Functions of Python bind lazily and are never called; these variables are bound when the library is opened, so they
   must exist. Nothing reads or writes them. */
#define VARIABLE(name) char name[1024] __attribute__((aligned(16), visibility("default")))

VARIABLE(PyBaseObject_Type);
VARIABLE(PyByteArray_Type);
VARIABLE(PyCFunction_Type);
VARIABLE(PyDict_Type);
VARIABLE(PyInstanceMethod_Type);
VARIABLE(PyModule_Type);
VARIABLE(PyProperty_Type);
VARIABLE(PyType_Type);
VARIABLE(PyExc_IndexError);
VARIABLE(PyExc_MemoryError);
VARIABLE(PyExc_OverflowError);
VARIABLE(PyExc_RuntimeError);
VARIABLE(PyExc_SystemError);
VARIABLE(PyExc_TypeError);
VARIABLE(PyExc_ValueError);
VARIABLE(_Py_NoneStruct);
VARIABLE(_Py_NotImplementedStruct);
