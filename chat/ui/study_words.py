"""What is said of a file that cannot become a study, in Korean and English.

Knows the reasons of `vision/study.py`. Does not know how they are found out.
"""

from chat.wording import Language

STUDY: dict[Language, dict[str, str]] = {
    "ko": {
        "study.empty": "빈 파일입니다. 다시 고르거나 새로 저장해 주세요.",
        "study.unknown_format": "이름이 무엇이든, 읽을 수 있는 이미지 파일이 아닙니다. {formats} 파일을 골라 주세요.",
        "study.convert_first": "{format} 파일은 읽지 못합니다. PNG로 바꾸어 다시 놓아 주세요.",
        "study.dicom_directory": "DICOMDIR은 디스크의 목차입니다. 옆에 있는 이미지 파일을 골라 주세요.",
        "study.dicom_no_image": "영상이 없는 DICOM입니다(보고서, 계획, 끊긴 파일). 같은 검사의 영상 파일을 골라 주세요.",
        "study.dicom_compression": "이 DICOM의 압축 방식은 읽지 못합니다. 압축 없이, 또는 16비트 PNG로 저장해 주세요.",
        "study.broken": "{format} 파일이 깨졌거나 끝까지 들어 있지 않습니다. 원본에서 다시 저장하거나 PNG로 바꾸어 주세요.",
        "study.too_small": "{width} × {height} 픽셀은 너무 작습니다. 한 변이 {minimum}픽셀 이상이어야 합니다.",
        "study.too_many_pixels": "{width} × {height} 픽셀은 너무 큽니다. {limit}픽셀 안으로 자르거나 --max-pixels를 올리세요.",
        "study.not_enough_memory": "{format} 파일을 열 메모리가 모자랍니다. 더 작은 것을 고르거나 다른 프로그램을 닫으세요.",
        "study.too_many_bytes": "파일이 너무 큽니다({limit}바이트까지). 이미지 한 장만, 또는 압축해서 저장해 주세요.",
        "study.took_too_long": "{format} 파일을 여는 데 너무 오래 걸립니다. 다시 저장하거나 더 작은 것을 고르세요.",
        "study.dicom_preamble": "다른 종류의 파일로 시작하는 DICOM은 열지 않습니다. 원본에서 다시 내보내 주세요.",
    },
    "en": {
        "study.empty": "This file is empty. Choose it again, or save it anew.",
        "study.unknown_format": "This is not an image that Hilum knows, whatever its name says. It reads {formats}.",
        "study.convert_first": "Hilum does not read {format} files. Convert it to PNG and drop that one.",
        "study.dicom_directory": "This is a DICOMDIR, the contents of a disc. Choose one of the image files beside it.",
        "study.dicom_no_image": "This DICOM file holds no image (a report, a plan, or cut off). Choose one of the same study.",
        "study.dicom_compression": "Hilum does not read this DICOM's compression. Save it uncompressed, or as 16-bit PNG.",
        "study.broken": "This {format} file is damaged or incomplete. Save it again from its source, or convert it to PNG.",
        "study.too_small": "{width} × {height} pixels are too few; each side needs at least {minimum}.",
        "study.too_many_pixels": "{width} × {height} pixels are too many; the limit is {limit}. Crop it or raise --max-pixels.",
        "study.not_enough_memory": "There is too little memory for this {format} file. Choose a smaller one or close programs.",
        "study.too_many_bytes": "This file is too large; up to {limit} bytes are read. Save the image alone, or compressed.",
        "study.took_too_long": "This {format} file takes too long to open. Save it again, or choose a smaller one.",
        "study.dicom_preamble": "This DICOM begins as another kind of file and stays closed. Export it again from its source.",
    },
}
