/**
 * The two passes of a resize, in WebAssembly with SIMD: one function for rows of 3 channels, one for rows of 1, one for columns.
 * A result is `(2^21 + Σ pixel * weight) >> 22`, held to 0..255. `bounds` are pairs of i32: byte offset of the first pixel, number of taps;
 * `weights` has room for `taps` i32 for each result.
 * Vectors reach up to 15 bytes beyond the last result, which the next row then overwrites: memory after the end must be free.
 */
export const resizeKernel = `
(func $rows3 (param $source i32) (param $target i32) (param $rows i32) (param $stride i32)
             (param $bounds i32) (param $weights i32) (param $taps i32) (param $width i32)
  (local $bound i32) (local $weight i32) (local $w i32) (local $end i32) (local $lastWeight i32) (local $pixel i32) (local $sum v128)
  (loop $row
    (local.set $bound (local.get $bounds))
    (local.set $weight (local.get $weights))
    (local.set $end (i32.add (local.get $target) (i32.mul (local.get $width) (i32.const 3))))
    (loop $result
      (local.set $pixel (i32.add (local.get $source) (i32.load (local.get $bound))))
      (local.set $w (local.get $weight))
      (local.set $lastWeight (i32.add (local.get $weight) (i32.shl (i32.load offset=4 (local.get $bound)) (i32.const 2))))
      (local.set $sum (i32x4.splat (i32.const 2097152)))
      (loop $tap
        (local.set $sum (i32x4.add (local.get $sum) (i32x4.mul
          (i32x4.extend_low_i16x8_u (i16x8.extend_low_i8x16_u (v128.load32_zero (local.get $pixel))))
          (v128.load32_splat (local.get $w)))))
        (local.set $pixel (i32.add (local.get $pixel) (i32.const 3)))
        (local.set $w (i32.add (local.get $w) (i32.const 4)))
        (br_if $tap (i32.lt_u (local.get $w) (local.get $lastWeight))))
      (local.set $sum (i32x4.shr_s (local.get $sum) (i32.const 22)))
      (local.set $sum (i16x8.narrow_i32x4_s (local.get $sum) (local.get $sum)))
      (v128.store32_lane 0 (local.get $target) (i8x16.narrow_i16x8_u (local.get $sum) (local.get $sum)))
      (local.set $target (i32.add (local.get $target) (i32.const 3)))
      (local.set $bound (i32.add (local.get $bound) (i32.const 8)))
      (local.set $weight (i32.add (local.get $weight) (i32.shl (local.get $taps) (i32.const 2))))
      (br_if $result (i32.lt_u (local.get $target) (local.get $end))))
    (local.set $source (i32.add (local.get $source) (local.get $stride)))
    (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
    (br_if $row (i32.gt_s (local.get $rows) (i32.const 0)))))

(func $rows1 (param $source i32) (param $target i32) (param $rows i32) (param $stride i32)
             (param $bounds i32) (param $weights i32) (param $taps i32) (param $width i32)
  (local $bound i32) (local $weight i32) (local $w i32) (local $end i32) (local $lastWeight i32) (local $pixel i32) (local $sum i32) (local $narrow v128)
  (loop $row
    (local.set $bound (local.get $bounds))
    (local.set $weight (local.get $weights))
    (local.set $end (i32.add (local.get $target) (local.get $width)))
    (loop $result
      (local.set $pixel (i32.add (local.get $source) (i32.load (local.get $bound))))
      (local.set $w (local.get $weight))
      (local.set $lastWeight (i32.add (local.get $weight) (i32.shl (i32.load offset=4 (local.get $bound)) (i32.const 2))))
      (local.set $sum (i32.const 2097152))
      (loop $tap
        (local.set $sum (i32.add (local.get $sum) (i32.mul (i32.load8_u (local.get $pixel)) (i32.load (local.get $w)))))
        (local.set $pixel (i32.add (local.get $pixel) (i32.const 1)))
        (local.set $w (i32.add (local.get $w) (i32.const 4)))
        (br_if $tap (i32.lt_u (local.get $w) (local.get $lastWeight))))
      (local.set $narrow (i32x4.splat (i32.shr_s (local.get $sum) (i32.const 22))))
      (local.set $narrow (i16x8.narrow_i32x4_s (local.get $narrow) (local.get $narrow)))
      (v128.store8_lane 0 (local.get $target) (i8x16.narrow_i16x8_u (local.get $narrow) (local.get $narrow)))
      (local.set $target (i32.add (local.get $target) (i32.const 1)))
      (local.set $bound (i32.add (local.get $bound) (i32.const 8)))
      (local.set $weight (i32.add (local.get $weight) (i32.shl (local.get $taps) (i32.const 2))))
      (br_if $result (i32.lt_u (local.get $target) (local.get $end))))
    (local.set $source (i32.add (local.get $source) (local.get $stride)))
    (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
    (br_if $row (i32.gt_s (local.get $rows) (i32.const 0)))))

(func $columns (param $source i32) (param $target i32) (param $rows i32) (param $stride i32)
               (param $bounds i32) (param $weights i32) (param $taps i32)
  (local $x i32) (local $w i32) (local $lastWeight i32) (local $pixel i32) (local $bytes v128) (local $half v128) (local $k v128)
  (local $a v128) (local $b v128) (local $c v128) (local $d v128)
  (loop $row
    (local.set $x (i32.const 0))
    (local.set $lastWeight (i32.add (local.get $weights) (i32.shl (i32.load offset=4 (local.get $bounds)) (i32.const 2))))
    (loop $sixteen
      (local.set $pixel (i32.add (i32.add (local.get $source) (i32.load (local.get $bounds))) (local.get $x)))
      (local.set $w (local.get $weights))
      (local.set $a (i32x4.splat (i32.const 2097152)))
      (local.set $b (local.get $a))
      (local.set $c (local.get $a))
      (local.set $d (local.get $a))
      (loop $tap
        (local.set $bytes (v128.load (local.get $pixel)))
        (local.set $k (v128.load32_splat (local.get $w)))
        (local.set $half (i16x8.extend_low_i8x16_u (local.get $bytes)))
        (local.set $a (i32x4.add (local.get $a) (i32x4.mul (i32x4.extend_low_i16x8_u (local.get $half)) (local.get $k))))
        (local.set $b (i32x4.add (local.get $b) (i32x4.mul (i32x4.extend_high_i16x8_u (local.get $half)) (local.get $k))))
        (local.set $half (i16x8.extend_high_i8x16_u (local.get $bytes)))
        (local.set $c (i32x4.add (local.get $c) (i32x4.mul (i32x4.extend_low_i16x8_u (local.get $half)) (local.get $k))))
        (local.set $d (i32x4.add (local.get $d) (i32x4.mul (i32x4.extend_high_i16x8_u (local.get $half)) (local.get $k))))
        (local.set $pixel (i32.add (local.get $pixel) (local.get $stride)))
        (local.set $w (i32.add (local.get $w) (i32.const 4)))
        (br_if $tap (i32.lt_u (local.get $w) (local.get $lastWeight))))
      (v128.store (i32.add (local.get $target) (local.get $x)) (i8x16.narrow_i16x8_u
        (i16x8.narrow_i32x4_s (i32x4.shr_s (local.get $a) (i32.const 22)) (i32x4.shr_s (local.get $b) (i32.const 22)))
        (i16x8.narrow_i32x4_s (i32x4.shr_s (local.get $c) (i32.const 22)) (i32x4.shr_s (local.get $d) (i32.const 22)))))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $sixteen (i32.lt_s (local.get $x) (local.get $stride))))
    (local.set $target (i32.add (local.get $target) (local.get $stride)))
    (local.set $bounds (i32.add (local.get $bounds) (i32.const 8)))
    (local.set $weights (i32.add (local.get $weights) (i32.shl (local.get $taps) (i32.const 2))))
    (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
    (br_if $row (i32.gt_s (local.get $rows) (i32.const 0)))))
`;
