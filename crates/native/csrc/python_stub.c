/* Stands in for libtorch_python.so, which torchvision's libraries list as needed for their use from Python.
   Most functions of Python bind lazily and are never called. What is below is bound when the library is opened, so it must
   exist: the union over the wheels of torchvision 0.26.0 for Python 3.10 to 3.14. Nothing reads, writes or calls it. */
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

/* Functions whose addresses stand in tables, since Python 3.12. */
VARIABLE(PyObject_GenericGetDict);
VARIABLE(PyObject_GenericSetDict);
