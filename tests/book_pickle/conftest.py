"""Pickles of Python 2, pickles in hand-written instructions, and how they are read from a file."""

from __future__ import annotations

from base64 import b85decode
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from xpnet.book_pickle import read_book_pickle

QUICK = settings(derandomize=True, deadline=None, max_examples=80, database=None)
# {'W1': asfortranarray([[0.5, -1.25], [3, 1e-30]], float32), 'b1': array([-0.0, 2], '>f8'),
#  'i': array([[-1]]), 'n': array([10, 92, 39, 34, 255], uint8)}, pickled by Python 2.7.18 with NumPy 1.16.6.
PYTHON_2 = {
    "pickle, protocol 0": b85decode(
        b"C}eOj3R5R(Ckk*e3S(|{ZE$%mV{dY0E^T#ebZKF7a$$K2Uvgz*Z*FsRa&=>L3UD$CC}VDQZE$%CZe(F{a$$K2a5D-hNiYg@a"
        b"5M^2Ct@cGa5V~aa5f53a5oAlNihm2NihmZF$#2WI0|EKb!~8Y3S@M7aAgW`ISMFKCuuk*3UDzn3P~^uNihm^a4|6oQgAUc3M"
        b"ff43R5RMCkk*eGYU>lPDw2>3P~+73P~^ubZ{{=3SvnxFbY#ATzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?Ckk*eH41"
        b"caF*XWfb5kc`F((ReF*gclG72bXGYTk4FbZ^VF*pimH41caF*yoSa569oC`mC2C`mF3bZ{~;3THVAC{rh9I425lGBOHDFbYX"
        b"A3UqKXGYV30GBgS(NizylCq5?%a56OtPEJlqEinp7Einp7FbZ^VGByfgNiZ-9Qzu+_I51pzFfd$rFfd$rFfd$rFfd$rFfd$r"
        b"Ffd$rFfc$|crY+rcrY+rcrY+rcrY+rcrY+rcrY+rcrY+03UD$v3UqKXI0|BOQzut3Ckk*fISOYo3MgkY3Mff13UqKYFbZci3"
        b"UqKYF$z*}GcpP&Nihm2NiqsaG75BXGcyWjISMFKCuTG!3UD(t3P~^uNihm^a5FUuQgAai3Mff43R5RMCkk*gHwsQpPDw2>3P"
        b"~+73P~^ubZ|2`3SvnxF$z;BTzD`rTzD`rTzD`rKU{b)FkE;rFhD?DcrY+rcrY+rcwsPHcw%N?LR@%ZGF);e3UD(y3UqKZFbZ"
        b"OGQzvdG3UD+r3THA3C}%SYC`m91bZ|5>3THJ6bZ|5?3Q}-1Gzut5F$yS2H41caG&KrmISMFKCv`C=3UD+w3P~^uNihm^a5Og"
        b"xQgAdl3Mff43R5S1Ckk*hISNirPDw2>3P~+73P~^ubZ|8=3SvnxFbY#ATy9)kTqh!2cxGlN3UD<s3UqKaG74gIE&"
    ),
    "cPickle, protocol 0": b85decode(
        b"C}eOk3R5R(CkkV3b!~8YE@N+UWiD-XY;<X1a&lpL3SV+%V{dMAbaHiLbP8}X3MgZ4b!~8Y3T|X!a&lpL3UD(DC`m91bW<l{C"
        b"kk{@a5M@iNihm2NihmZF$#2JZgp*Nc?x87d2nS4a5V}jQzvOSCkjb03P~{vbW(6O3Mff43R5RMCkjqZPDw2>3P~+73P~^ubY"
        b"e*`FbY#ATzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?TzF<?Ckk|8b5kc`F((ReHwtGm3MgkY3Mff13UpH^VkZi8QgAp5C`m"
        b"C2C`mF3bZ0dRC{rh9I4258FbYXA3UpF%ISMFAGYV5DJ|_xJPEJWJF$zg7F$zgA3Up#gFfa;JCtP?qFkE;rFkE;rFkE;rFkE;"
        b"rFkE;rFkE;rFkE;rFhE>*Ffd$rFfd$rFfd$rFfd$rFfd$rFfd$rFfb<ybYgQ;Cs#2i3UDzn3THA3C}%SYC`m91bW<l{Ckk{@"
        b"a4|6oC`mC2C`mF3Niqs_XEh2aQzvFLCkjb03P~{vbW(6JG72b3GYV5DJSPfHPEJWJF$zg7F$zgA3Up#gFfj^KCtP?iFkE;rF"
        b"kE;rFh5*)Ffd$rFfc$sTzD`rTzD`rTzFwHTzFz;U_xAYVKQ8DCkk|8b5kd7CkkgW3MgkY3Mff13UpH^VkZi8QgAUd3Mff23M"
        b"ff63Up^R3Mf-2bulLjNiYgYF$#22a4|FrC`mI4Qzv{U3QkT=Ni8u7Ni8u7NiYg@Vo5MC3R5RsZd_bkCn8*UW@aY}bYgQZ"
    ),
    "cPickle, protocol 1": b85decode(
        b"eQ^OORRL*ZZgp*Nc`jpba%C=Ub!>ELVRCX|c?w^0Wn*t{b98cbV{{5}0w`l{b!~8Y3T|X!a&lpL3ULD{O8|6L0b+DgaRew!0"
        b"VqoWO96CaZgp*Nc?x87d2nS4aRn$<0%<r)080UMQgH?-O9NE_JWftdO8@`=|4RS=|Nlz>bYe*`FbY)&|NsC0|NsC0bYfKkVl"
        b"i<CXaXo`11L)XbX5UjbW(8$C`$n-O9FIg1t?VlW;ja#O96CJaS13(162V&PEJlr|NsC0O8@`=|4RULVo5MC3RMt*00000000"
        b"0$000000001VVpRfHF>wlL0w`z$C`$lzRRLmjQgI6?O93cL0!spPXay)$0%kNz080UMQgI9@O9NE_JWftdO8@`=|4RS=|Nlz"
        b">bYe*`F$z@>0000#002Nh005xBU_zn|bYfKjZfF81Xaguq0CZIWVsuh*4Jb<iC`$!&Xay)$0(CJ<080UMQgIF_O9NE_d`?bI"
        b"O8@`=|4RS=|Nlz>bYe*`FbY)#3S1{5|8!z?E&"
    ),
    "pickle, protocol 2": b85decode(
        b"fC7DS04P-fX>kE#Zgp*Nc`jpba%C=Ub!>ELVRCX|c?w^0Wn*t{b98cbV{{5}0%LA<ZE$%CZe(F{a$$K2aRW;Lg>eK`0b+3lh"
        b"j9i{aR(?%0ZRc(0fuo1V{UbAaCr)3ba`-P3ULWl0%<sL3QGV>0f%u5QgI9@O9NE_JaG+9PEJby|Ns9=|NsC0O8|6n4q}N_2>"
        b"<{8|NsC0|8Wm=aS&ov0%9?75oiKv14{sfaS~_+hj9~9aTF*^0ZRgfaTRC@RRU%>aTZGeO96**7gBK;C`$uX0X}gVPEJlr|Ns"
        b"C0O8@`=|4RULaT;QYRS<vx00000002M$000000040tba5PFRRUKraUEy^Xah?Cg>fEe1&47TQgI+CO94v)O9F;*A!rFz0%kO"
        b"EB1-^E0f%uTQgI|GO9NE_JaHvXPEJby|Ns9=|NsC0O8|6nCSr(H5C8xGKL7wgKmY)szhFY54RI%QaVTO{0d8?AXaZ;hO8|v&"
        b"Drg0VaVt`BEGSC>O9h2-Eocc<0(CKQE=vGQ0f%ufQgJXSO9NE_d~q>OPEJby|Ns9=|NsC0O8|6nGGd8U1qxgzBL8tSba6Cdb"
        b"uI"
    ),
}
# A pickle in hand-written instructions: an array, up to the state that BUILD gives it.
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNNK\x00K\x00K\x00tb"


def state(shape: bytes = b"K\x01\x85", dtype: bytes = DTYPE, data: bytes = b"C\x04abcd") -> bytes:
    return b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def named(value: bytes) -> bytes:
    """A pickled dict of one entry, W1."""
    return b"\x80\x03}X\x02\x00\x00\x00W1" + value + b"s."


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "weights.pkl"


def read(path: Path, content: bytes) -> dict[str, np.ndarray]:
    path.write_bytes(content)
    return read_book_pickle(path)
