// Photos, scaled down before they are sent: the service keeps less, and refuses very large ones.
const SIDE = 2560; // pixels of the longer side: twice what the service keeps

// A photo of at most SIDE pixels a side, or the file as it is; raises what the browser cannot read.
export async function scaled(file) {
  if (!["image/jpeg", "image/png"].includes(file.type)) return file;
  const image = await createImageBitmap(file); // turned as its EXIF says
  const scale = SIDE / Math.max(image.width, image.height);
  if (scale >= 1) return file;
  const canvas = new OffscreenCanvas(Math.round(image.width * scale), Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  return new File([await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 })], file.name, { type: "image/jpeg" });
}
